//! The requests of all sessions, some at a time.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use turn::client::{Event, Request};

use super::challenge::Challenge;
use super::{ControlError, Kind, Session, Why};
use crate::link::Link;
use crate::server::{Login, Transport};

/// How an engine works.
#[derive(Clone)]
pub struct EngineSettings {
    /// Who we are.
    pub login: Login,
    /// The server, for messages.
    pub server: SocketAddr,
    /// How we talk to it.
    pub transport: Transport,
    /// Sessions with requests under way at once.
    pub in_flight: usize,
    /// Requests of one session under way at once.
    pub each: usize,
}

/// What became of one request.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Whose.
    pub session: usize,
    /// What it was for.
    pub kind: Kind,
    /// From the first datagram to the answer, in nanoseconds, challenges included; true only where
    /// a session has one request under way at a time.
    pub took: u64,
    /// How it ended.
    pub result: Result<(), ControlError>,
}

/// All sessions and their requests.
pub struct Engine {
    settings: EngineSettings,
    sessions: Vec<Session>,
    waiting: VecDeque<usize>,
    active: Vec<usize>,
    challenge: Option<Challenge>,
    outcomes: VecDeque<Outcome>,
    /// Whether a first session has got through to the server.
    introduced: bool,
}

impl Engine {
    /// No sessions yet.
    pub fn new(settings: EngineSettings) -> Engine {
        Engine {
            settings,
            sessions: Vec::new(),
            waiting: VecDeque::new(),
            active: Vec::new(),
            challenge: None,
            outcomes: VecDeque::new(),
            introduced: false,
        }
    }

    /// Adds a session; its number.
    pub fn add(&mut self, link: Arc<Link>) -> usize {
        let session = Session::new(link, &self.settings.login, self.settings.transport);
        self.sessions.push(session);
        self.sessions.len() - 1
    }

    /// Puts a new session in the place of one that is over.
    pub fn replace(&mut self, session: usize, link: Arc<Link>) {
        self.active.retain(|active| *active != session);
        self.sessions[session] = Session::new(link, &self.settings.login, self.settings.transport);
    }

    /// All sessions.
    pub fn sessions(&self) -> &[Session] {
        &self.sessions
    }

    /// Adds requests of a session; they start in their order.
    pub fn enqueue(&mut self, session: usize, requests: impl IntoIterator<Item = Request>) {
        self.sessions[session].todo.extend(requests);
        if !self.sessions[session].active && !self.waiting.contains(&session) {
            self.waiting.push_back(session);
        }
    }

    /// The same requests for each of these sessions, none of which has any yet.
    pub fn enqueue_each(&mut self, wave: impl IntoIterator<Item = (usize, Vec<Request>)>) {
        for (session, requests) in wave {
            self.sessions[session].todo.extend(requests);
            if !self.sessions[session].active {
                self.waiting.push_back(session);
            }
        }
    }

    /// Changes how many sessions may be active.
    pub fn set_in_flight(&mut self, in_flight: usize) {
        self.settings.in_flight = in_flight;
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.active.is_empty() && self.waiting.is_empty()
    }

    /// Sessions that have requests under way.
    pub fn active(&self) -> usize {
        self.active.len()
    }

    /// Of this session's requests that have not been started, only the deletion is left.
    pub fn skip_to_delete(&mut self, session: usize) {
        self.sessions[session].todo.retain(|request| Kind::of(request) == Kind::Delete);
    }

    /// Forgets all of this session's requests.
    pub fn give_up(&mut self, session: usize) {
        self.sessions[session].todo.clear();
        self.waiting.retain(|waiting| *waiting != session);
        self.retire(session);
    }

    /// Forgets what has not been started.
    pub fn abandon(&mut self) {
        self.waiting.clear();
        self.sessions.iter_mut().for_each(|session| session.todo.clear());
    }

    /// What became of the requests, in order.
    pub fn poll(&mut self) -> Option<Outcome> {
        self.outcomes.pop_front()
    }

    /// A message from the server to this session.
    pub fn input(&mut self, session: usize, bytes: &[u8], now: u64) {
        if self.challenge.is_none() {
            self.challenge = Challenge::of(bytes);
        }
        self.sessions[session].client.receive(Duration::from_nanos(now), bytes);
        self.work(session, now);
    }

    /// The session's link is of no use any more.
    pub fn broken(&mut self, session: usize, why: Why, now: u64) {
        let broken = &mut self.sessions[session];
        let kind = match broken.todo.front() {
            Some(request) => Kind::of(request),
            None if broken.relayed.is_none() => Kind::Allocate,
            None => Kind::Refresh,
        };
        (broken.running, broken.relayed) = (0, None);
        broken.todo.clear();
        self.finish(session, kind, now, Err(why));
        self.retire(session);
    }

    /// Sends what is due and starts what may be started. Call it after input and every few
    /// milliseconds.
    pub fn tick(&mut self, now: u64) {
        for session in self.active.clone() {
            let deadline = self.sessions[session].client.deadline();
            if deadline.is_some_and(|deadline| deadline <= Duration::from_nanos(now)) {
                self.work(session, now);
            }
        }
        self.start(now);
    }

    /// Makes waiting sessions active. The first one goes alone: it brings the challenge.
    pub fn start(&mut self, now: u64) {
        let most = if self.introduced { self.settings.in_flight } else { 1 };
        while self.active.len() < most {
            let Some(session) = self.waiting.pop_front() else { return };
            self.sessions[session].active = true;
            self.active.push(session);
            self.work(session, now);
        }
    }

    /// Goes on with a session: events, new requests, datagrams.
    fn work(&mut self, at: usize, now: u64) {
        let clock = Duration::from_nanos(now);
        loop {
            while let Some(event) = self.sessions[at].client.poll_event() {
                self.happened(at, event, now);
            }
            let session = &mut self.sessions[at];
            while session.running < self.settings.each {
                let Some(request) = session.todo.pop_front() else { break };
                let fresh = session.client.nonce().is_none();
                // Never busy: `each` is below the client's own limit.
                let Ok(id) = session.client.request(clock, request) else { break };
                session.running += 1;
                session.since = now;
                if let (true, Some(challenge)) = (fresh, &self.challenge) {
                    session.client.receive(clock, &challenge.to(id));
                }
            }
            while let Some(bytes) = session.client.poll_transmit(clock) {
                if let Err(error) = session.link.send_control(bytes) {
                    return self.broken(at, Why::Unreachable(words(&error)), now);
                }
            }
            // Giving a request up is an event too.
            match session.client.poll_event() {
                Some(event) => self.happened(at, event, now),
                None => break,
            }
        }
        let session = &self.sessions[at];
        if session.running == 0 && session.todo.is_empty() {
            self.retire(at);
        }
    }

    fn retire(&mut self, session: usize) {
        self.sessions[session].active = false;
        self.active.retain(|active| *active != session);
    }

    fn happened(&mut self, at: usize, event: Event, now: u64) {
        let session = &mut self.sessions[at];
        session.running = session.running.saturating_sub(1);
        let (kind, result) = match event {
            Event::Mapped(_) | Event::Discovered { .. } => (Kind::Binding, Ok(())),
            Event::Allocated(allocated) => {
                session.relayed = allocated.relayed.first().copied();
                session.lifetime_secs = allocated.lifetime_secs;
                (Kind::Allocate, Ok(()))
            }
            Event::Refreshed { lifetime_secs } | Event::Moved { lifetime_secs, .. } => {
                session.lifetime_secs = lifetime_secs;
                (Kind::Refresh, Ok(()))
            }
            Event::Deleted => {
                session.relayed = None;
                (Kind::Delete, Ok(()))
            }
            Event::Permitted { .. } => (Kind::Permission, Ok(())),
            Event::Bound { .. } | Event::Connected { .. } | Event::Joined { .. } => {
                (Kind::Channel, Ok(()))
            }
            Event::Failed { request, why } => {
                let kind = Kind::of(&request);
                if kind == Kind::Allocate {
                    // Without an allocation the rest makes no sense.
                    session.todo.clear();
                }
                (kind, Err(why.into()))
            }
        };
        self.introduced |= result.is_ok();
        self.finish(at, kind, now, result);
    }

    /// A failure in this server's words.
    pub fn error(&self, session: usize, kind: Kind, why: Why) -> ControlError {
        let (server, transport) = (self.settings.server, self.settings.transport);
        ControlError { kind, session, server, transport, why }
    }

    fn finish(&mut self, session: usize, kind: Kind, now: u64, result: Result<(), Why>) {
        let took = now.saturating_sub(self.sessions[session].since);
        let result = result.map_err(|why| self.error(session, kind, why));
        self.outcomes.push_back(Outcome { session, kind, took, result });
    }
}

/// An error of the socket as a user would say it.
pub(super) fn words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
        std::io::ErrorKind::InvalidData => "it does not speak TURN there".to_owned(),
        _ => error.to_string(),
    }
}
