//! What counts the waiting for locks does count it, and tells a worker's thread from another.
#![allow(clippy::unwrap_used, reason = "the code of a test")]

#[path = "support/futexes.rs"]
mod futexes;

use std::sync::Mutex;

/// Waits for a lock that another thread has until a futex call was counted.
fn contended(name: &str, counted: fn() -> u64) {
    let before = counted();
    let lock = Mutex::new(());
    std::thread::scope(|scope| {
        let held = lock.lock().unwrap();
        let waiting = std::thread::Builder::new().name(name.to_owned());
        waiting.spawn_scoped(scope, || drop(lock.lock().unwrap())).unwrap();
        // generous: the thread has to come to run at all
        for _ in 0..30_000 {
            if counted() > before {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        drop(held);
    });
    assert!(counted() > before, "{name}");
}

#[test]
fn a_worker_that_waits_for_a_lock_is_counted() {
    futexes::count();
    assert_eq!(futexes::counted(), 0);
    contended("another", futexes::counted_of_others);
    assert_eq!(futexes::counted(), 0, "it was not a worker's thread");
    contended("turnwire-w7", futexes::counted);
}
