//! `mio::Waker` as an eventfd is: a wake is remembered until the sleeper has come by.

use loom::sync::{Condvar, Mutex};

#[derive(Default)]
pub struct Waker {
    woken: Mutex<bool>,
    bed: Condvar,
}

impl Waker {
    pub fn wake(&self) -> real::io::Result<()> {
        *self.woken.lock().expect("no thread panics with it") = true;
        self.bed.notify_one();
        Ok(())
    }

    /// Sleeps until woken, or not at all if that was since the last time. Loom reports it when nobody
    /// ever does.
    pub fn sleep(&self) {
        let mut woken = self.woken.lock().expect("no thread panics with it");
        while !*woken {
            woken = self.bed.wait(woken).expect("no thread panics with it");
        }
        *woken = false;
    }

    /// Whether the next sleep ends at once.
    pub fn is_woken(&self) -> bool {
        *self.woken.lock().expect("no thread panics with it")
    }
}
