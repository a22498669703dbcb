//! Carries an engine's messages while nothing else reads the links: at setup and at the end.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use super::engine::words;
use super::{Engine, Outcome, Why};
use crate::link::Link;
use crate::sys::{Poller, interrupted, monotonic};

const MILLISECOND: u64 = 1_000_000;
/// How often retransmissions are looked at.
const TICK: u64 = 10 * MILLISECOND;
const MESSAGE_MAX: usize = 65_536;

/// Why a pump stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The engine has nothing under way.
    Idle,
    /// The outcomes' taker wants no more.
    Stopped,
    /// The time is up.
    Deadline,
    /// Ctrl-C.
    Interrupted,
}

/// epoll over the links of an engine's sessions.
pub struct Pump {
    poller: Poller,
    links: Vec<Option<Arc<Link>>>,
    buffer: Vec<u8>,
    /// Sessions whose link ended already.
    broken: HashSet<usize>,
}

impl Pump {
    /// No links yet.
    ///
    /// # Errors
    /// As epoll_create1(2).
    pub fn new() -> io::Result<Pump> {
        let buffer = vec![0; MESSAGE_MAX];
        Ok(Pump { poller: Poller::new()?, links: Vec::new(), buffer, broken: HashSet::new() })
    }

    /// Watches the link of this session, in place of the one that it had.
    ///
    /// # Errors
    /// As epoll_ctl(2).
    pub fn watch(&mut self, session: usize, link: Arc<Link>) -> io::Result<()> {
        if self.links.len() <= session {
            self.links.resize_with(session + 1, || None);
        }
        self.poller.add(&*link, session)?;
        self.links[session] = Some(link);
        self.broken.remove(&session);
        Ok(())
    }

    /// Stops watching.
    pub fn forget(&mut self, session: usize) {
        if let Some(link) = self.links[session].take() {
            self.poller.remove(&*link);
        }
    }

    /// Runs until the engine is idle, `on_outcome` returns `false`, the deadline (CLOCK_MONOTONIC
    /// in nanoseconds) or Ctrl-C.
    pub fn run(
        &mut self,
        engine: &mut Engine,
        deadline: u64,
        on_outcome: &mut dyn FnMut(&mut Engine, &mut Pump, Outcome) -> bool,
    ) -> Ended {
        self.carry(engine, deadline, true, on_outcome)
    }

    /// The same in spite of Ctrl-C: what was made is deleted all the same.
    pub fn run_to_the_end(
        &mut self,
        engine: &mut Engine,
        deadline: u64,
        on_outcome: &mut dyn FnMut(&mut Engine, &mut Pump, Outcome) -> bool,
    ) -> Ended {
        self.carry(engine, deadline, false, on_outcome)
    }

    fn carry(
        &mut self,
        engine: &mut Engine,
        deadline: u64,
        interruptible: bool,
        on_outcome: &mut dyn FnMut(&mut Engine, &mut Pump, Outcome) -> bool,
    ) -> Ended {
        let mut next_tick = 0;
        loop {
            let now = monotonic();
            if now >= next_tick {
                engine.tick(now);
                next_tick = now + TICK;
            } else {
                engine.start(now);
            }
            while let Some(outcome) = engine.poll() {
                if !on_outcome(engine, self, outcome) {
                    return Ended::Stopped;
                }
            }
            match () {
                () if engine.is_idle() => return Ended::Idle,
                () if now >= deadline => return Ended::Deadline,
                () if interruptible && interrupted() => return Ended::Interrupted,
                () => {}
            }
            let ready = self.poller.wait(5);
            for at in 0..ready {
                self.receive(self.poller.ready(at), engine);
            }
        }
    }

    fn receive(&mut self, session: usize, engine: &mut Engine) {
        let Some(link) = self.links[session].clone() else { return };
        loop {
            match link.receive_control(&mut self.buffer) {
                Ok(Some(len)) => engine.input(session, &self.buffer[..len], monotonic()),
                Ok(None) => return,
                Err(error) => {
                    let why = match error.kind() {
                        io::ErrorKind::UnexpectedEof => Why::Closed,
                        _ => Why::Unreachable(words(&error)),
                    };
                    if self.broken.insert(session) {
                        engine.broken(session, why, monotonic());
                    }
                    return self.forget(session);
                }
            }
        }
    }
}
