//! What the keeper has done by a thread beside the control thread.
//!
//! ```text
//!   Keeper ── look at the interfaces, open, try, close ──> turnwire-queues ──> kernel
//!          <── a survey, queues, what is free, closed ──────┘ one errand at a time, in order
//! ```
//!
//! Asking a driver and binding an AF_XDP socket wait for the kernel's lock of network configuration, the
//! driver starts a queue anew, and closing one waits for whoever may still use it: all that is no work
//! for a thread that answers clients. A seat has two errands at most under way (queues are opened or
//! closed while refused ones are tried), and there is one survey: the ways there and back are never full.

use super::keeper::Copying;
use super::suited::Asked;
use super::survey::{Interface, Survey, Want};
use super::{BURST_MAX, Frames, Lane};
use crate::link::xsk::{self, Error, FrameSize, Options, Queue, Umem};
use crate::mailbox::Bell;
use mio::Waker;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

/// Entries of each ring of a queue.
const RING: u32 = 1024;

/// The same of a queue that is opened only to see whether it can be.
const PROBE_RING: u32 = 64;

/// An interface that no queue is opened on without a panic.
#[cfg(test)]
const FAILS: &str = "fails";

/// Something to do.
pub(super) enum Errand {
    /// See which queues there are on interfaces with the program.
    Look { asked: Asked, interfaces: Vec<Interface>, before: Survey },
    /// Open a worker's queues.
    Open { worker: usize, of: Vec<Want> },
    /// See which of a worker's refused queues can be had by now.
    Try { worker: usize, refused: Vec<Want> },
    /// Close what a worker gave back.
    Close { worker: usize, frames: Box<Frames> },
}

/// What came of it.
pub(super) enum Done {
    Looked(Survey),
    Opened { worker: usize, of: Vec<Want>, opened: Result<Opened, Error> },
    Tried { worker: usize, free: Option<Want> },
    Closed { worker: usize },
}

/// Queues of one worker, which nothing comes to yet.
pub(super) struct Opened {
    pub(super) umem: Umem,
    /// Each with what it was opened for.
    pub(super) lanes: Vec<(Want, Lane)>,
    pub(super) refused: Refused,
}

/// Queues that could not be had, and why.
pub(super) type Refused = Vec<(Want, String)>;

/// The thread. Dropping this ends it, and waits for the errand that it is on.
pub(super) struct Errands {
    there: Option<SyncSender<Errand>>,
    back: Receiver<Done>,
    /// Rung when something is done.
    bell: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
}

impl Errands {
    /// Starts the thread for so many seats; `waker` wakes the control thread when something is done.
    pub(super) fn start(seats: usize, copying: Copying, waker: Arc<Waker>) -> io::Result<Errands> {
        let (there, errands) = sync_channel(2 * seats + 1);
        let (done, back) = sync_channel(2 * seats + 1);
        let bell = Arc::new(Bell::new(waker));
        let ringer = Arc::clone(&bell);
        let run = move || {
            for errand in errands {
                if done.send(run_safely(errand, copying)).is_err() {
                    return; // the keeper is gone
                }
                ringer.ring();
            }
        };
        let thread = Builder::new().name("turnwire-queues".to_owned()).spawn(run)?;
        Ok(Errands { there: Some(there), back, bell, thread: Some(thread) })
    }

    /// Has something done. False when that cannot be: the thread is gone.
    pub(super) fn send(&self, errand: Errand) -> bool {
        self.there.as_ref().is_some_and(|there| there.try_send(errand).is_ok())
    }

    /// True when something was done since this was last asked.
    pub(super) fn is_told(&self) -> bool {
        self.bell.hear()
    }

    /// The next thing that is done.
    pub(super) fn done(&self) -> Option<Done> {
        self.back.try_recv().ok()
    }
}

impl Drop for Errands {
    fn drop(&mut self) {
        drop(self.there.take());
        // what is done waits for nobody: there is room for all of it
        if let Some(thread) = self.thread.take() {
            // how it ended no longer matters: it is gone
            let _ = thread.join();
        }
    }
}

/// What an errand comes to that panics: somebody waits for its end, and there are others to run.
fn run_safely(errand: Errand, copying: Copying) -> Done {
    let failed = match &errand {
        Errand::Look { before, .. } => Done::Looked(before.clone()),
        Errand::Open { worker, of } => {
            Done::Opened { worker: *worker, of: of.clone(), opened: Err(Error::Failed) }
        }
        Errand::Try { worker, .. } => Done::Tried { worker: *worker, free: None },
        Errand::Close { worker, .. } => Done::Closed { worker: *worker },
    };
    // it has nothing but the errand, which is gone
    catch_unwind(AssertUnwindSafe(|| run(errand, copying))).unwrap_or(failed)
}

fn run(errand: Errand, copying: Copying) -> Done {
    match errand {
        #[cfg(test)]
        Errand::Open { of, .. } if of.iter().any(|want| want.name == FAILS) => {
            panic!("as a test wants it")
        }
        Errand::Look { asked, interfaces, before } => {
            Done::Looked(Survey::look(asked, &interfaces, &before))
        }
        Errand::Open { worker, of } => {
            let opened = open(&of, copying);
            Done::Opened { worker, of, opened }
        }
        Errand::Try { worker, refused } => {
            let free = refused.into_iter().find(|want| can_be_had(want, copying));
            Done::Tried { worker, free }
        }
        Errand::Close { worker, frames } => {
            drop(frames);
            Done::Closed { worker }
        }
    }
}

/// How queues are opened.
fn options(copying: Copying, entries: u32) -> Options {
    let copying = match copying {
        Copying::Copy => xsk::Copying::Copy,
        Copying::Auto | Copying::Zero => xsk::Copying::Zero,
    };
    Options { copying, entries, busy_poll: None }
}

fn frame_size(copying: Copying) -> FrameSize {
    match copying {
        // what the program hands over fits
        Copying::Copy => FrameSize::Bytes2048,
        Copying::Auto | Copying::Zero => FrameSize::Bytes4096,
    }
}

/// Opens a queue that was refused for a moment.
fn can_be_had(want: &Want, copying: Copying) -> bool {
    let Ok(mut umem) = Umem::new(PROBE_RING, frame_size(copying)) else { return false };
    Queue::open(&want.name, want.queue, &mut umem, &options(copying, PROBE_RING)).is_ok()
}

/// Opens what can be opened.
fn open(of: &[Want], copying: Copying) -> Result<Opened, Error> {
    // what each may receive into, what waits to be sent, and a burst
    let frames = of.len() as u32 * 2 * RING + BURST_MAX as u32;
    let mut umem = Umem::new(frames, frame_size(copying))?;
    let options = options(copying, RING);
    let (mut lanes, mut refused) = (Vec::new(), Refused::new());
    for want in of {
        match Queue::open(&want.name, want.queue, &mut umem, &options) {
            Ok(queue) => lanes.push((want.clone(), Lane::new(queue, want.interface))),
            Err(error) => refused.push((want.clone(), error.to_string())),
        }
    }
    Ok(Opened { umem, lanes, refused })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errand_that_panics_has_an_end_and_others_come_after_it() {
        // given
        let poll = mio::Poll::new().expect("a poller");
        let waker = Arc::new(Waker::new(poll.registry(), mio::Token(0)).expect("a waker"));
        let errands = Errands::start(2, Copying::Copy, waker).expect("a thread");
        let want = |name: &str| Want { interface: 1, name: name.to_owned(), queue: 0 };
        let done = || loop {
            match errands.done() {
                Some(done) => break done,
                None => std::thread::sleep(std::time::Duration::from_millis(1)),
            }
        };
        // when
        let of = vec![want(FAILS)];
        assert!(errands.send(Errand::Open { worker: 1, of: of.clone() }));
        // then whoever had it done knows
        let failed = done();
        let Done::Opened { worker: 1, of: named, opened: Err(error) } = failed else {
            panic!("another end")
        };
        assert!(named == of && matches!(error, Error::Failed), "{error}");
        // and the next is done
        assert!(errands.send(Errand::Try { worker: 0, refused: vec![want("no-such-one")] }));
        assert!(matches!(done(), Done::Tried { worker: 0, free: None }));
    }
}
