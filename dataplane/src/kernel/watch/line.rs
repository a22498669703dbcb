//! The control thread's end, and the thread at the other.

use std::io;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use rtrb::{Consumer, Producer, RingBuffer};

use super::{CHORES_MAX, Chore, Desk, REPORTS_MAX, Report, WAYS_MAX, Watch};
use crate::kernel::paths::Path;
use crate::link::socket::monotonic;
use crate::mailbox::Bell;

const WAKE: Token = Token(0);
const NEWS: [Token; 2] = [Token(1), Token(2)];

/// The control thread's end. Dropping it ends the watch, and waits for that.
pub(crate) struct Line {
    ways: Producer<Path>,
    chores: Producer<Chore>,
    reports: Consumer<Report>,
    /// Wakes the watch.
    watch: Arc<Bell>,
    /// Wakes the control thread.
    control: Arc<Bell>,
    /// Something was asked, or room was made, since the watch was last woken.
    pending: bool,
    thread: Option<Thread>,
    #[cfg(test)]
    here: Option<Here>,
}

/// What is started once.
struct Thread {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// A watch without a thread, which works when the control thread looks, unless the kernel makes it wait:
/// for tests that go step by step.
#[cfg(test)]
struct Here {
    watch: Watch,
    desk: Desk,
    waits: bool,
}

/// The rings, with nobody at the far end yet.
fn rings(watch: Arc<Bell>, control: Arc<Bell>) -> (Line, Desk) {
    let (ways, ways_out) = RingBuffer::new(WAYS_MAX);
    let (chores, chores_out) = RingBuffer::new(CHORES_MAX);
    let (reports_in, reports) = RingBuffer::new(REPORTS_MAX);
    let desk = Desk {
        ways: ways_out,
        chores: chores_out,
        reports: reports_in,
        waiting: Default::default(),
        control: Arc::clone(&control),
        pending: false,
    };
    let line = Line {
        ways,
        chores,
        reports,
        watch,
        control,
        pending: false,
        thread: None,
        #[cfg(test)]
        here: None,
    };
    (line, desk)
}

impl Line {
    /// Starts the watch's thread, which wakes the control thread by `waker`.
    ///
    /// # Errors
    /// The system has no descriptors or threads left.
    pub(crate) fn start(watch: Watch, waker: Arc<Waker>) -> io::Result<Line> {
        let poll = Poll::new()?;
        let own = Arc::new(Waker::new(poll.registry(), WAKE)?);
        for (fd, token) in watch.news_fds().zip(NEWS) {
            let fd = fd.as_raw_fd();
            poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE)?;
        }
        let (mut line, desk) = rings(Arc::new(Bell::new(own)), Arc::new(Bell::new(waker)));
        let stop = Arc::new(AtomicBool::new(false));
        let (bell, told) = (Arc::clone(&line.watch), Arc::clone(&stop));
        let run = move || run(watch, desk, poll, &bell, &told);
        let thread = Builder::new().name("turnwire-net".to_owned()).spawn(run)?;
        line.thread = Some(Thread { stop, thread });
        Ok(line)
    }

    /// A watch without a thread.
    #[cfg(test)]
    pub(crate) fn here(watch: Watch) -> Line {
        let (mut line, desk) = rings(Arc::new(Bell::silent()), Arc::new(Bell::silent()));
        line.here = Some(Here { watch, desk, waits: false });
        line
    }

    /// From now on the kernel makes a watch without a thread wait, or no more.
    #[cfg(test)]
    pub(crate) fn hold(&mut self, hold: bool) {
        self.here.iter_mut().for_each(|here| here.waits = hold);
    }

    /// The watch, where it has no thread.
    #[cfg(test)]
    pub(crate) fn watch(&self) -> Option<&Watch> {
        self.here.as_ref().map(|here| &here.watch)
    }

    /// Has a watch without a thread do a round. True when it has more to do.
    #[cfg(test)]
    pub(crate) fn work(&mut self) -> bool {
        let here = self.here.as_mut().filter(|here| !here.waits);
        here.is_some_and(|Here { watch, desk, .. }| watch.round(desk))
    }

    /// True when there is room for asking another way.
    pub(crate) fn has_room(&self) -> bool {
        self.ways.slots() > 0
    }

    /// Asks which way a path leads: answered by [`Report::Way`]. False when there was no room: it was
    /// not asked.
    pub(crate) fn ask(&mut self, path: Path) -> bool {
        self.pending = true;
        self.ways.push(path).is_ok()
    }

    /// Chores that there is room for.
    pub(crate) fn room(&self) -> usize {
        self.chores.slots()
    }

    /// Has something done. False when there was no room: it is not.
    pub(crate) fn have(&mut self, chore: Chore) -> bool {
        self.pending = true;
        self.chores.push(chore).is_ok()
    }

    /// About to look at the reports.
    pub(crate) fn hear(&mut self) {
        self.control.hear();
        // the watch may have stopped for want of room
        self.pending |= self.reports.slots() >= REPORTS_MAX / 2;
    }

    /// The next report.
    pub(crate) fn next(&mut self) -> Option<Report> {
        self.reports.pop().ok()
    }

    /// True when there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.reports.is_empty()
    }

    /// Wakes the watch if anything was asked since the last time.
    pub(crate) fn flush(&mut self) {
        if std::mem::take(&mut self.pending) {
            self.watch.ring();
        }
    }

    /// False once the watch's thread has ended, which it does not by itself. The program is detached then.
    pub(crate) fn is_alive(&self) -> bool {
        self.thread.as_ref().is_none_or(|thread| !thread.thread.is_finished())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(Thread { stop, thread }) = self.thread.take() {
            stop.store(true, Release);
            self.watch.ring();
            // how it ended no longer matters: it is gone
            let _ = thread.join();
        }
    }
}

/// A watch that fails again so soon after it failed is beyond help.
const FAILURES_APART: Duration = Duration::from_secs(60);

/// Works until it is told to stop. A poller that fails is one that the system has broken: it is tried
/// again, at the pace of somebody who looks once a second.
///
/// A round that panics (on words of the kernel that nobody thought of, say) is not the end of the fast
/// path: everything is asked for anew. If it panics again so do we, and the program is detached.
fn run(mut watch: Watch, mut desk: Desk, mut poll: Poll, bell: &Bell, stop: &AtomicBool) {
    const PACE: Duration = Duration::from_secs(1);
    let mut events = Events::with_capacity(4);
    let mut failed: Option<Duration> = None;
    loop {
        bell.hear();
        if stop.load(Acquire) {
            return;
        }
        // what a round leaves behind half done is asked for anew
        match catch_unwind(AssertUnwindSafe(|| watch.round(&mut desk))) {
            Ok(true) => continue,
            Ok(false) => {}
            Err(panic) => {
                let now = monotonic();
                if failed.is_some_and(|then| now.saturating_sub(then) < FAILURES_APART) {
                    resume_unwind(panic);
                }
                failed = Some(now);
                watch.doubt(&mut desk);
                continue;
            }
        }
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => std::thread::sleep(PACE),
            _ => {}
        }
    }
}
