//! Silence, and many requests at once.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Client;
use crate::check::{Stop, Verdict, fail};
use crate::codec::{Answer, kind};

/// Requests under way at once.
const WINDOW: usize = 16;
/// How often what was lost is sent again.
const ROUNDS: usize = 4;
/// How long a round waits for answers.
const ROUND: Duration = Duration::from_millis(1500);

impl Client<'_> {
    /// Sends what must not be answered, and a Binding request after every few: nothing but that
    /// one's response may come, nor within a moment after the last. A stream may be closed instead.
    ///
    /// # Errors
    /// Something else came.
    pub fn expect_silence(&mut self, messages: &[Vec<u8>], what: &str) -> Verdict {
        for chunk in messages.chunks(WINDOW) {
            for message in chunk {
                if self.send(message).is_err() && self.trial.is_stream() {
                    return self.nothing_came(what);
                }
            }
            self.knock()?;
            self.nothing_came(what)?;
            if self.closed {
                return Ok(());
            }
        }
        if messages.is_empty() {
            self.knock()?;
        }
        self.settle()?;
        self.nothing_came(what)
    }

    /// A Binding request that must be answered, after which there is a moment's grace for what was
    /// sent before it. A stream may have been closed.
    ///
    /// # Errors
    /// No answer.
    pub fn sentinel(&mut self) -> Verdict {
        self.knock()?;
        self.settle()
    }

    fn knock(&mut self) -> Verdict {
        let request = self.write(kind::BINDING).bytes();
        let answer = match self.exchange_or_silence(&request) {
            // A stream that is reset refuses to be written to.
            Err(_) if self.trial.is_stream() => {
                self.closed = true;
                None
            }
            answer => answer?,
        };
        if answer.is_none() && !self.closed {
            return Err(fail("a server that goes on answering Binding requests", "silence"));
        }
        Ok(())
    }

    /// A moment's grace for what was sent before the last sentinel.
    fn settle(&mut self) -> Verdict {
        let until = Instant::now() + self.trial.options.grace;
        while let Some(bytes) = self.receive(until.saturating_duration_since(Instant::now()))? {
            self.keep(bytes);
        }
        Ok(())
    }

    fn nothing_came(&mut self, what: &str) -> Verdict {
        match self.inbox.pop_front() {
            None => Ok(()),
            Some(bytes) => {
                let came = self.read(&bytes).map_or("a message".into(), |answer| answer.summary());
                Err(fail(format!("silence to {what}"), came))
            }
        }
    }

    /// Sends requests a few at a time, and gives the responses in the order of the requests; `None`
    /// where silence was the answer to all attempts.
    ///
    /// # Errors
    /// The host fails.
    pub fn volley(&mut self, requests: &[Vec<u8>]) -> Result<Vec<Option<Answer>>, Stop> {
        let mut answers: HashMap<Vec<u8>, Answer> = HashMap::new();
        let rounds = if self.trial.is_stream() { 1 } else { ROUNDS };
        for chunk in requests.chunks(WINDOW) {
            for _ in 0..rounds {
                let missing = |answers: &HashMap<Vec<u8>, Answer>| {
                    chunk.iter().filter(|r| !answers.contains_key(&r[8..20])).cloned().collect()
                };
                let left: Vec<Vec<u8>> = missing(&answers);
                if left.is_empty() {
                    break;
                }
                for request in &left {
                    self.send(request)?;
                }
                let until = Instant::now() + ROUND;
                while !<Vec<Vec<u8>>>::is_empty(&missing(&answers)) && !self.closed {
                    let left = until.saturating_duration_since(Instant::now());
                    let Some(bytes) = self.receive(left)? else { break };
                    match self.read(&bytes) {
                        Some(answer) if answer.is_response() => {
                            self.answered.insert(answer.id.to_vec());
                            answers.entry(answer.id.to_vec()).or_insert(answer);
                        }
                        _ => self.keep(bytes),
                    }
                }
            }
        }
        Ok(requests.iter().map(|request| answers.remove(&request[8..20])).collect())
    }

    /// Sends requests that must not succeed; error responses and silence are both welcome.
    ///
    /// # Errors
    /// One succeeded: with its place in `requests`.
    pub fn expect_no_success(&mut self, requests: &[Vec<u8>], what: &str) -> Verdict {
        for (at, chunk) in requests.chunks(WINDOW).enumerate() {
            for request in chunk {
                match self.send(request) {
                    // A stream that was closed does not take more.
                    Err(_) if self.trial.is_stream() => self.closed = true,
                    sent => sent?,
                }
            }
            if !self.closed {
                self.knock()?;
            }
            self.no_success_came(what, at * WINDOW + chunk.len())?;
            if self.closed {
                return Ok(());
            }
        }
        self.settle()?;
        self.no_success_came(what, requests.len())
    }

    fn no_success_came(&mut self, what: &str, sent: usize) -> Verdict {
        for bytes in std::mem::take(&mut self.inbox) {
            if self.read(&bytes).as_ref().is_some_and(Answer::is_success) {
                let came = format!("a success after {sent} of them");
                return Err(fail(format!("no success for {what}"), came));
            }
        }
        Ok(())
    }
}
