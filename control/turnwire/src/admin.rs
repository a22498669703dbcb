//! The admin server: `/metrics`, `/healthz`, `/readyz` and `/allocations`, and on a loopback address
//! `POST /reload` and `POST /drain`, on threads of its own.
//!
//! ```text
//!   HTTP client -> admin thread --question (bounded, never waits)--> control thread
//!                       ^------------answer (bounded, timed)-------------'
//! ```
//!
//! An admin thread that stalls or panics costs no packet: the control thread answers what waits
//! when it gets to it, and never waits for whoever asked.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use mio::Waker;

use crate::reload::Outcome;

pub mod allocations;
pub mod http;
pub mod metrics;
pub mod process;
pub mod prometheus;
pub mod threads;

use allocations::{Listing, PAGE_MAX};
use http::{Request, Response};
use metrics::Snapshot;

/// Connections served at once.
const THREADS: usize = 4;
/// Questions that may wait for the control thread.
const QUESTIONS_MAX: usize = 2 * THREADS;
/// How long the control thread may take to answer; `/healthz` says 503 after it.
pub const ANSWER_MAX: Duration = Duration::from_secs(1);
/// How long a reload may take before whoever asked is told that it goes on.
const RELOAD_MAX: Duration = Duration::from_secs(30);
/// Allocations listed in one response.
const LISTED_MAX: usize = 10_000;
const LISTED_DEFAULT: usize = 1_000;

/// What the control thread is asked.
#[derive(Debug)]
pub enum Question {
    /// Whether it is there.
    Health(SyncSender<()>),
    /// Whether new clients are welcome: not while it drains.
    Ready(SyncSender<bool>),
    /// To read the configuration again.
    Reload(SyncSender<Outcome>),
    /// To drain. The answer is how many allocations there are.
    Drain(SyncSender<usize>),
    /// Its numbers.
    Metrics(SyncSender<Box<Snapshot>>),
    /// At most [`PAGE_MAX`] allocations, the first `offset` of them skipped.
    Allocations {
        /// How many to skip.
        offset: usize,
        /// How many to list, at most.
        limit: usize,
        /// Where the answer goes.
        reply: SyncSender<Listing>,
    },
}

/// The way to the control thread.
#[derive(Clone)]
struct Control {
    questions: SyncSender<Question>,
    waker: Arc<Waker>,
    /// Only this host can ask: it may change things too.
    local: bool,
}

/// Why there is no answer.
struct NoAnswer(&'static str);

impl Control {
    fn ask<T>(&self, question: impl FnOnce(SyncSender<T>) -> Question) -> Result<T, NoAnswer> {
        self.ask_within(ANSWER_MAX, question).and_then(|answer| {
            answer.ok_or(NoAnswer(
                "the control thread did not answer within 1 s; packets may still be relayed\n",
            ))
        })
    }

    /// `None`: no answer in this time.
    fn ask_within<T>(
        &self,
        time: Duration,
        question: impl FnOnce(SyncSender<T>) -> Question,
    ) -> Result<Option<T>, NoAnswer> {
        let (reply, answer) = sync_channel(1);
        self.questions.try_send(question(reply)).map_err(|error| match error {
            TrySendError::Full(_) => NoAnswer("too many questions wait for the control thread\n"),
            TrySendError::Disconnected(_) => NoAnswer("the control thread has ended\n"),
        })?;
        self.waker.wake().map_err(|_| NoAnswer("the control thread cannot be woken\n"))?;
        match answer.recv_timeout(time) {
            Ok(answer) => Ok(Some(answer)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(NoAnswer("the control thread has ended\n")),
        }
    }
}

/// Starts the admin server at `address`. Returns the address as bound, and where its questions
/// come out.
///
/// # Errors
/// The address cannot be bound, or a thread cannot be started.
pub fn start(
    address: SocketAddr,
    waker: Arc<Waker>,
) -> io::Result<(SocketAddr, Receiver<Question>)> {
    let listener = Arc::new(TcpListener::bind(address)?);
    let bound = listener.local_addr()?;
    let (questions, asked) = sync_channel(QUESTIONS_MAX);
    let control = Control { questions, waker, local: bound.ip().is_loopback() };
    for index in 0..THREADS {
        let (listener, control) = (Arc::clone(&listener), control.clone());
        let name = format!("admin-{index}");
        thread::Builder::new().name(name).spawn(move || accept(&listener, &control))?;
    }
    Ok((bound, asked))
}

fn accept(listener: &TcpListener, control: &Control) {
    loop {
        match listener.accept() {
            Ok((mut stream, _)) => {
                let served = http::serve(&mut stream, &mut |request| {
                    let answer = catch_unwind(AssertUnwindSafe(|| answer(control, request)));
                    answer.unwrap_or_else(|_| Response::text(500, "this page is broken\n"))
                });
                if let Err(error) = served {
                    tracing::debug!(%error, "an admin connection failed");
                }
            }
            // Descriptors may be short for a while: they belong to the relay first.
            Err(error) => {
                tracing::debug!(%error, "no admin connection could be accepted");
                thread::sleep(Duration::from_millis(200));
            }
        }
    }
}

type Page = fn(&Control, &Request) -> Result<Response, NoAnswer>;

fn answer(control: &Control, request: &Request) -> Response {
    let (method, page): (_, Page) = match request.path.as_str() {
        "/metrics" => ("GET", metrics_page),
        "/healthz" => ("GET", health),
        "/readyz" => ("GET", readiness),
        "/allocations" => ("GET", listing),
        "/reload" => ("POST", reload),
        "/drain" => ("POST", drain),
        _ => {
            let pages = "there is /metrics, /healthz, /readyz and /allocations, and to POST to \
                         /reload and /drain\n";
            return Response::text(404, pages);
        }
    };
    if request.method != method {
        return Response::method(method);
    }
    if method == "POST"
        && let Err(why) = may_change(control, request)
    {
        return Response::text(403, why);
    }
    page(control, request).unwrap_or_else(|NoAnswer(why)| Response::text(503, why))
}

/// Nobody is asked who they are, so only this host may change things; and not by way of a page in
/// a browser on this host, which names its origin.
fn may_change(control: &Control, request: &Request) -> Result<(), &'static str> {
    if !control.local {
        return Err("this is only for an admin server on a loopback address\n");
    }
    if request.from_page {
        return Err("this is not for pages in a browser\n");
    }
    Ok(())
}

fn reload(control: &Control, _: &Request) -> Result<Response, NoAnswer> {
    Ok(match control.ask_within(RELOAD_MAX, Question::Reload)? {
        Some(Ok(text)) => Response::text(200, format!("{text}\n")),
        Some(Err(problems)) => {
            Response::text(422, format!("what ran before stays in use\n{problems}\n"))
        }
        None => Response::text(202, "the configuration is still being read: see the log\n"),
    })
}

fn drain(control: &Control, _: &Request) -> Result<Response, NoAnswer> {
    let left = control.ask(Question::Drain)?;
    Ok(Response::text(200, format!("draining: {left} allocations left\n")))
}

fn readiness(control: &Control, _: &Request) -> Result<Response, NoAnswer> {
    Ok(match control.ask(Question::Ready)? {
        true => Response::text(200, "ready\n"),
        false => Response::text(503, "draining\n"),
    })
}

fn health(control: &Control, _: &Request) -> Result<Response, NoAnswer> {
    control.ask(Question::Health)?;
    Ok(Response::text(200, "ok\n"))
}

fn metrics_page(control: &Control, _: &Request) -> Result<Response, NoAnswer> {
    let snapshot = control.ask(Question::Metrics)?;
    let body = metrics::render(&snapshot, &process::Process::look());
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    Ok(Response { content_type, ..Response::text(200, body) })
}

/// Lists in pages, each one question, so that the control thread never works long on one.
fn listing(control: &Control, request: &Request) -> Result<Response, NoAnswer> {
    let numbers = (request.number("offset", 0), request.number("limit", LISTED_DEFAULT));
    let (offset, limit) = match numbers {
        (Ok(offset), Ok(limit)) => (offset, limit.min(LISTED_MAX)),
        (Err(wrong), _) | (_, Err(wrong)) => return Ok(Response::text(400, wrong)),
    };
    let mut whole = Listing::default();
    loop {
        let listed = whole.allocations.len();
        let (offset, limit) = (offset.saturating_add(listed), (limit - listed).min(PAGE_MAX));
        let page = control.ask(|reply| Question::Allocations { offset, limit, reply })?;
        let last = page.allocations.len() < limit || limit < PAGE_MAX;
        whole.total = page.total;
        whole.allocations.extend(page.allocations);
        if last {
            break;
        }
    }
    Ok(Response::json(whole.to_json(offset)))
}

#[cfg(test)]
mod tests;
