//! Reloads: asked for by a signal or by the admin server, read on a thread, carried out here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use mio::Waker;

use super::Driver;
use crate::clock;
use crate::random::System;
use crate::reload::{Fresh, Outcome, Reloader};

/// Whoever waits for the outcome of one reload; the admin server has fewer threads.
const WAITING_MAX: usize = 16;

type Loaded = Result<Box<Fresh>, String>;

/// How reloads went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReloadCounts {
    /// Carried out.
    pub ok: u64,
    /// Refused for a mistake: what ran before goes on.
    pub failed: u64,
    /// Settings that differ from what runs and wait for a restart, as of the last reload.
    pub restart_needed: usize,
}

/// The reload that is under way, and those who wait.
pub(super) struct Reloads {
    reader: Arc<Reloader>,
    waker: Arc<Waker>,
    sender: SyncSender<Loaded>,
    loaded: Receiver<Loaded>,
    /// A thread is reading.
    reading: bool,
    /// Asked for while it was: what it has read may be older than that.
    again: bool,
    waiting: Vec<SyncSender<Outcome>>,
    waiting_next: Vec<SyncSender<Outcome>>,
    pub(super) counts: ReloadCounts,
}

impl Reloads {
    pub(super) fn new(reader: Arc<Reloader>, waker: Arc<Waker>) -> Reloads {
        let (sender, loaded) = sync_channel(1);
        Reloads {
            reader,
            waker,
            sender,
            loaded,
            reading: false,
            again: false,
            waiting: Vec::new(),
            waiting_next: Vec::new(),
            counts: ReloadCounts::default(),
        }
    }

    /// Begins to read, or notes that it has to be done once more.
    pub(super) fn ask(&mut self, reply: Option<SyncSender<Outcome>>) {
        // Beyond the limit nobody waits; the reload itself is one for all.
        let room = self.waiting_next.len() < WAITING_MAX;
        self.waiting_next.extend(reply.filter(|_| room));
        if self.reading {
            self.again = true;
        } else {
            self.begin();
        }
    }

    fn begin(&mut self) {
        self.again = false;
        self.waiting = std::mem::take(&mut self.waiting_next);
        let (reader, waker, sender) =
            (Arc::clone(&self.reader), Arc::clone(&self.waker), self.sender.clone());
        let read = move || {
            let read = catch_unwind(AssertUnwindSafe(|| reader.read()));
            let loaded = match read {
                Ok(Ok(fresh)) => Ok(Box::new(fresh)),
                Ok(Err(problems)) => Err(problems.to_string()),
                Err(_) => Err("reading the configuration failed: this is a fault".to_owned()),
            };
            // The control thread may have ended meanwhile: then nobody wants it.
            if sender.send(loaded).is_ok() {
                let _ = waker.wake();
            }
        };
        self.reading = true;
        if let Err(error) = thread::Builder::new().name("reload".to_owned()).spawn(read) {
            self.reading = false;
            self.finish(Err(format!("no thread could be started to read it: {error}")));
        }
    }

    /// What was read, once.
    fn take(&mut self) -> Option<Loaded> {
        let loaded = self.loaded.try_recv().ok()?;
        self.reading = false;
        Some(loaded)
    }

    /// Counts and tells an outcome, and begins anew if that was asked for.
    fn finish(&mut self, outcome: Outcome) {
        match &outcome {
            Ok(text) => {
                self.counts.ok += 1;
                tracing::info!("reload: {text}");
            }
            Err(problems) => {
                self.counts.failed += 1;
                for problem in problems.lines() {
                    tracing::error!("reload refused: {problem}");
                }
            }
        }
        for waiting in self.waiting.drain(..) {
            // Whoever asked may have gone.
            let _ = waiting.try_send(outcome.clone());
        }
        if self.again {
            self.begin();
        }
    }
}

impl Driver {
    /// Carries out what was read: all of it, as nothing below can fail.
    pub(super) fn take_reload(&mut self) {
        let Some(loaded) = self.reloads.take() else { return };
        let outcome = loaded.map(|fresh| self.carry_out(*fresh));
        self.reloads.finish(outcome);
    }

    fn carry_out(&mut self, fresh: Fresh) -> String {
        let now = clock::now();
        for note in &fresh.notes {
            tracing::warn!("{note}");
        }
        self.server.replace_credentials(fresh.credentials);
        self.server.replace_policy(fresh.policy, now, &mut self.outlet);
        if let Some(key) = self.nonce_keys.replace(fresh.nonce_secret, now.unix, &mut System) {
            self.server.rotate_nonce_key(&key);
        }
        if let Some(identity) = fresh.identity
            && let Err(error) = self.outlet.plane.replace_identity(&identity)
        {
            // The reader has asked before; what it found cannot be true any more.
            tracing::error!(%error, "the certificate in use stays");
        }
        self.drain_timeout = fresh.drain_timeout;
        self.reloads.counts.restart_needed = fresh.restart.len();
        if fresh.restart.is_empty() {
            return "the configuration was read again and is in use".to_owned();
        }
        let keys = fresh.restart.join(", ");
        tracing::warn!(keys, "reload: a change of these takes a restart");
        format!("the configuration is in use, but for what takes a restart: {keys}")
    }
}
