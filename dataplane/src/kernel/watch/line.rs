//! The control thread's end, and the thread at the other.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use rtrb::{Consumer, Producer, RingBuffer};

use super::{Desk, QUESTIONS_MAX, Question, REPORTS_MAX, Report, Watch};
use crate::mailbox::Bell;

const WAKE: Token = Token(0);
const NEWS: [Token; 2] = [Token(1), Token(2)];

/// The control thread's end. Dropping it ends the watch, and waits for that.
pub(crate) struct Line {
    questions: Producer<Question>,
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
    let (questions, questions_out) = RingBuffer::new(QUESTIONS_MAX);
    let (reports_in, reports) = RingBuffer::new(REPORTS_MAX);
    let desk = Desk {
        questions: questions_out,
        reports: reports_in,
        waiting: Default::default(),
        control: Arc::clone(&control),
        pending: false,
    };
    let line = Line {
        questions,
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

    /// Questions that there is room for.
    pub(crate) fn room(&self) -> usize {
        self.questions.slots()
    }

    /// Asks. False when there was no room: it was not asked.
    pub(crate) fn ask(&mut self, question: Question) -> bool {
        self.pending = true;
        self.questions.push(question).is_ok()
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

    /// False once the watch's thread has ended, which it does not by itself.
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

/// Works until it is told to stop. A poller that fails is one that the system has broken: it is tried
/// again, at the pace of somebody who looks once a second.
fn run(mut watch: Watch, mut desk: Desk, mut poll: Poll, bell: &Bell, stop: &AtomicBool) {
    const PACE: Duration = Duration::from_secs(1);
    let mut events = Events::with_capacity(4);
    loop {
        bell.hear();
        if stop.load(Acquire) {
            return;
        }
        if watch.round(&mut desk) {
            continue;
        }
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => std::thread::sleep(PACE),
            _ => {}
        }
    }
}
