//! The sink's sockets, commands and counters.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::state::{Start, State, filler};
use super::{Answer, Command, MAGIC, read, write};
use crate::link::Link;
use crate::progress::Progress;
use crate::report::count;
use crate::stamp::{Filler, Judgement, PAYLOAD_MAX};
use crate::sys::{self, Poller, ReceiveBatch, drops_of, interrupted, monotonic};

const BATCH: usize = 64;
const BATCHES_MAX: usize = 4;
/// Bytes of results in one answer: the answer fits a datagram on any path.
const PART: usize = 900;

/// How a sink is to be.
#[derive(Clone, Copy, Debug)]
pub struct SinkOptions {
    /// The first address.
    pub listen: SocketAddr,
    /// This port and those above it.
    pub ports: u16,
    /// Most datagrams a second that it may be asked to send.
    pub rate_max: f64,
}

/// A sink.
pub struct Sink {
    options: SinkOptions,
    links: Vec<Arc<Link>>,
    states: HashMap<u8, State>,
    filler: Filler,
    unreadable: u64,
    /// Cookies follow from addresses and this.
    secret: RandomState,
}

impl Sink {
    /// Opens the ports.
    ///
    /// # Errors
    /// One of them is taken.
    pub fn open(options: SinkOptions) -> Result<Sink> {
        sys::raise_open_files();
        let mut links = Vec::new();
        for at in 0..options.ports.max(1) {
            let mut local = options.listen;
            if local.port() > 0 {
                local.set_port(local.port().checked_add(at).context("too many --ports")?);
            }
            let link = Link::peer(local).with_context(|| format!("listening at {local}"))?;
            links.push(Arc::new(link));
        }
        let (states, secret) = (HashMap::new(), RandomState::new());
        Ok(Sink { options, links, states, filler: filler(), unreadable: 0, secret })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn addresses(&self) -> Result<Vec<SocketAddr>> {
        self.links.iter().map(|link| Ok(link.local()?)).collect()
    }

    /// Serves until Ctrl-C.
    ///
    /// # Errors
    /// epoll refuses a socket.
    pub fn serve(&mut self, progress: &mut Progress) -> Result<()> {
        let mut poller = Poller::new()?;
        for (at, link) in self.links.iter().enumerate() {
            poller.add(&**link, at)?;
        }
        let mut batch = ReceiveBatch::new(BATCH, PAYLOAD_MAX + MAGIC.len());
        let mut last = (0, 0);
        while !interrupted() {
            let ready = poller.wait(100);
            for at in 0..ready {
                self.read(poller.ready(at), &mut batch);
            }
            if ready == 0 || progress.is_due() {
                let now = self.counts();
                if now != last && progress.is_due() {
                    let (sent, received) = (count(now.0), count(now.1));
                    progress.line(&format!(
                        "received {received}, sent {sent}, unreadable {}",
                        count(self.unreadable)
                    ));
                    progress.told();
                    last = now;
                }
            }
        }
        Ok(())
    }

    fn counts(&self) -> (u64, u64) {
        let counts = self.states.values().map(State::counts);
        counts.fold((0, 0), |(sent, received), (s, r)| (sent + s, received + r))
    }

    fn read(&mut self, socket: usize, batch: &mut ReceiveBatch) {
        let link = self.links[socket].clone();
        for _ in 0..BATCHES_MAX {
            let Ok(messages) = batch.receive(&*link) else { return };
            let now = monotonic();
            for at in 0..messages {
                for bytes in batch.datagrams(at) {
                    if !bytes.starts_with(MAGIC) {
                        self.judge(bytes, now);
                    } else if let (Some(from), Some(command)) = (batch.from(at), read(bytes)) {
                        let answer = write(&self.answer(socket, from, command));
                        // An answer that is lost is asked for again.
                        let _ = link.send_to(&answer, from);
                    }
                }
            }
            if !batch.is_full() {
                return;
            }
        }
    }

    fn judge(&mut self, bytes: &[u8], now: u64) {
        let (stamp, intact) = match self.filler.judge(bytes) {
            Judgement::Intact(stamp) => (stamp, true),
            Judgement::Damaged(stamp) => (stamp, false),
            Judgement::Unreadable => return self.unreadable += 1,
        };
        match self.states.get_mut(&stamp.tag) {
            Some(state) => state.note(stamp, intact, now),
            None => self.unreadable += 1,
        }
    }

    fn drops(&self) -> u64 {
        self.links.iter().map(|link| drops_of(&**link)).sum()
    }

    fn answer(&mut self, socket: usize, from: SocketAddr, command: Command) -> Answer {
        let no = |why: &str| Answer::No { why: why.to_owned() };
        match command {
            Command::Hello { tag, time } => {
                // One that was said again and comes late must not undo what came after it.
                let late = self.states.get(&tag).is_some_and(|state| state.hello >= time);
                if late {
                    return Answer::Ready { time, sink_time: monotonic() };
                }
                let mut state = State::default();
                state.hello = time;
                state.unreadable_before = self.unreadable;
                state.drops_before = self.drops();
                self.states.insert(tag, state);
                Answer::Ready { time, sink_time: monotonic() }
            }
            Command::Flow { tag, flow, cookie } => {
                let expected = self.secret.hash_one(from);
                let Some(state) = self.states.get_mut(&tag) else { return no("say Hello first") };
                if cookie != expected {
                    return Answer::Cookie { flow, cookie: expected };
                }
                state.want(flow, socket, from);
                Answer::Added { flow }
            }
            Command::Go { tag, offset, start, len, slots, rate, mix } => {
                let most = self.options.rate_max;
                if rate.is_none_or(|rate| rate > most) {
                    return no(&format!("at most {} datagrams a second (--rate-max)", most));
                }
                let Ok(mix) = mix.parse() else { return no("no mix") };
                let Some(state) = self.states.get_mut(&tag) else { return no("say Hello first") };
                if !state.going {
                    let start = Start { offset, start, len, slots, rate, mix };
                    state.go(tag, start, &self.links);
                }
                Answer::Going
            }
            Command::Report { tag } => {
                let (unreadable, drops) = (self.unreadable, self.drops());
                let Some(state) = self.states.get_mut(&tag) else { return no("say Hello first") };
                if state.text.is_none() {
                    let results = state.results(unreadable, drops);
                    state.text = Some(serde_json::to_string(&results).unwrap_or_default());
                }
                Answer::Made { len: state.text.as_ref().map_or(0, String::len) }
            }
            Command::Fetch { tag, at } => {
                let text = self.states.get(&tag).and_then(|state| state.text.as_ref());
                let part = text.and_then(|text| text.get(at..text.len().min(at + PART)));
                match part {
                    Some(part) => Answer::Part { at, text: part.to_owned() },
                    None => no("no such part"),
                }
            }
        }
    }
}
