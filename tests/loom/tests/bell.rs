//! No ring of the bell is lost, in any order of the two threads' steps.

use loom::sync::Arc;
use loom::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Release},
};
use loom::thread;
use turnwire_loom::{Bell, Waker};

/// Writers put in and ring; the reader sleeps, hears, and then looks. A lost ring leaves it asleep
/// for ever, which loom reports as a deadlock.
fn sleeper_sees_all(writers: usize, each: u64) {
    let waker = Arc::new(Waker::default());
    let bell = Arc::new(Bell::new(Arc::clone(&waker)));
    let rings: Vec<_> = (0..writers).map(|_| Arc::new(AtomicU64::new(0))).collect();
    let write = |ring: &Arc<AtomicU64>| {
        let (ring, bell) = (Arc::clone(ring), Arc::clone(&bell));
        thread::spawn(move || put_in(&ring, &bell, each))
    };
    let threads: Vec<_> = rings.iter().map(write).collect();
    let mut seen = 0;
    while seen < each * writers as u64 {
        waker.sleep();
        bell.hear();
        seen = rings.iter().map(|ring| ring.load(Acquire)).sum();
    }
    threads.into_iter().for_each(|thread| thread.join().expect("a writer ends"));
}

fn put_in(ring: &AtomicU64, bell: &Bell, each: u64) {
    for number in 1..=each {
        ring.store(number, Release);
        bell.ring();
    }
}

/// One look while a writer puts in two things. Afterwards everything was seen, or the reader is woken
/// once more.
fn is_woken_for_what_it_did_not_see(hear_first: bool) -> bool {
    let waker = Arc::new(Waker::default());
    let bell = Arc::new(Bell::new(Arc::clone(&waker)));
    let ring = Arc::new(AtomicU64::new(0));
    let (to, by) = (Arc::clone(&ring), Arc::clone(&bell));
    let writing = thread::spawn(move || put_in(&to, &by, 2));
    waker.sleep();
    if hear_first {
        bell.hear();
    }
    let seen = ring.load(Acquire);
    if !hear_first {
        bell.hear();
    }
    writing.join().expect("the writer ends");
    seen == 2 || waker.is_woken()
}

#[test]
fn no_ring_of_one_writer_is_lost() {
    loom::model(|| sleeper_sees_all(1, 2));
    loom::model(|| assert!(is_woken_for_what_it_did_not_see(true), "a ring was lost"));
}

#[test]
fn no_ring_of_two_writers_is_lost() {
    // three threads: bounded, or it takes half a minute
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| sleeper_sees_all(2, 1));
}

#[test]
#[should_panic(expected = "a ring was lost")]
fn looking_before_hearing_would_lose_one() {
    loom::model(|| assert!(is_woken_for_what_it_did_not_see(false), "a ring was lost"));
}
