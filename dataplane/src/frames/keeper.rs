//! The control thread's side: opens queues, gives them to workers, takes them back, tries again.
//!
//! ```text
//!   Without ──> Opening ──give──> With ──interfaces changed, a queue failed,──> Asked ──┐
//!      ^                                 one that was refused is free: ask              │
//!      └─────────────────── closed; after a while <── the worker gave them back ────────┘
//! ```
//!
//! What the kernel may take long over is done by a thread beside this one ([`errands`](super::errands)).
//!
//! A worker's queues come and go together, with the memory that they share. Before they are asked
//! for, their places in the program's map are emptied: the stack has what comes from then on, and
//! the worker has time for what it has received.

use super::errands::{Done, Errand, Errands, Opened, Refused};
use super::news::{KeeperStats, News};
use super::suited::{Asked, Facts, suited};
use super::survey::{Interface, Survey, Want};
use super::{Frames, Home, Lane, Unsuited};
use crate::kernel::{FrameTables, Kernel};
use crate::link::xsk::Error;
use crate::plane::Dataplane;
use mio::Waker;
use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// How long after a failure it is tried again, at first; it doubles up to [`RETRY_MAX`].
const RETRY: Duration = Duration::from_secs(2);

/// And at most.
const RETRY_MAX: Duration = Duration::from_secs(64);

/// How long the kernel may take to let go of a closed queue.
const SETTLING: Duration = Duration::from_millis(500);

/// How often the number of an interface's queues is asked for.
const SURVEY: Duration = Duration::from_secs(2);

/// Which interfaces get AF_XDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copying {
    /// Those that advertise zero copy, and without copies only: what copies carries more than sockets do
    /// over many flows, but less over one, and is past the host's packet filter. Where the program
    /// forwards, those only whose drivers are known to send that as well.
    Auto,
    /// All, with copies.
    Copy,
    /// All, without copies or not at all, but for drivers that are known to lose what the program
    /// forwards.
    Zero,
}

enum State {
    Without {
        /// Not before: a queue that was closed a moment ago is in use for a moment more.
        settled: Duration,
        /// Unless the interfaces change.
        retry: Duration,
    },
    /// They are being opened.
    Opening,
    With {
        since: Duration,
    },
    /// Asked to give them back; how long to wait then.
    Asked {
        pause: Duration,
    },
}

struct Seat {
    state: State,
    /// What its queues were opened for, or tried to.
    of: Vec<Want>,
    /// Of those, the ones that were refused while others were not.
    refused: Vec<Want>,
    /// When these are tried again.
    again: Duration,
    /// They are being tried.
    trying: bool,
    patience: Duration,
    /// What was told last, so that a refusal is told once.
    told: Option<String>,
}

impl Seat {
    /// How long to wait this time; the next time is longer.
    fn pause(&mut self) -> Duration {
        let pause = self.patience;
        self.patience = (pause * 2).min(RETRY_MAX);
        pause
    }
}

/// Keeps workers in queues.
pub struct Keeper {
    copying: Copying,
    tables: Arc<FrameTables>,
    seats: Vec<Seat>,
    home: mpsc::Receiver<Home>,
    way_home: mpsc::Sender<Home>,
    errands: Errands,
    survey: Survey,
    /// When it was asked for last.
    surveyed: Option<Duration>,
    /// It is under way.
    surveying: bool,
    /// Interfaces that have none by choice, and what was told of them.
    unsuited: HashMap<String, String>,
    stats: KeeperStats,
}

impl Keeper {
    /// For the workers of `plane` and the interfaces of `kernel`, which was attached with something
    /// to punt. Nothing is opened yet. `waker` wakes the control thread when there is something for
    /// [`tick`](Self::tick).
    ///
    /// # Errors
    /// The program's tables cannot be mapped; no thread can be started.
    pub fn new(
        copying: Copying,
        plane: &Dataplane,
        kernel: &Kernel,
        waker: Arc<Waker>,
    ) -> io::Result<Keeper> {
        let tables = kernel.frame_tables().map_err(|error| io::Error::other(error.to_string()))?;
        let (way_home, home) = mpsc::channel();
        let seat = || Seat {
            state: State::Without { settled: Duration::ZERO, retry: Duration::ZERO },
            of: Vec::new(),
            refused: Vec::new(),
            again: Duration::ZERO,
            trying: false,
            patience: RETRY,
            told: None,
        };
        let seats = plane.udp_workers();
        Ok(Keeper {
            copying,
            tables: Arc::new(tables),
            seats: (0..seats).map(|_| seat()).collect(),
            errands: Errands::start(seats, copying, waker)?,
            home,
            way_home,
            survey: Survey::default(),
            surveyed: None,
            surveying: false,
            unsuited: HashMap::new(),
            stats: KeeperStats::default(),
        })
    }

    /// Why none of `interfaces` gets queues, where that is known before anything is attached. When
    /// there are several reasons, the one of an interface that could have them but for what it loses.
    pub fn unsuited(
        copying: Copying,
        program_forwards: bool,
        interfaces: &[&str],
    ) -> Option<Unsuited> {
        let asked = Asked { copying, program_forwards };
        let facts = |name: &&str| Facts::of(asked, name);
        let facts: Vec<io::Result<Facts>> = interfaces.iter().map(facts).collect();
        let known = || facts.iter().filter_map(|facts| facts.as_ref().ok());
        let mut found = None;
        for own in &facts {
            match own.as_ref().map(|own| suited(asked, own, known())) {
                Ok(Ok(())) => return None,
                Ok(Err(unsuited)) if !matches!(found, Some(Unsuited::Loses(_))) => {
                    found = Some(unsuited);
                }
                Ok(Err(_)) => {}
                // attaching says what is wrong with it
                Err(error) if copying == Copying::Auto => {
                    found.get_or_insert(Unsuited::Copies(error.to_string()));
                }
                Err(_) => return None,
            }
        }
        found
    }

    /// Counts, for the metrics.
    pub fn stats(&self) -> KeeperStats {
        self.stats
    }

    /// True when there is something for [`tick`](Self::tick) before its time.
    pub fn is_told(&self) -> bool {
        self.errands.is_told()
    }

    /// To be called about every second, at the start, and when [`is_told`](Self::is_told). `now` is
    /// CLOCK_MONOTONIC.
    pub fn tick(&mut self, now: Duration, plane: &mut Dataplane, kernel: &mut Kernel) -> Vec<News> {
        let mut news = Vec::new();
        while let Ok(home) = self.home.try_recv() {
            self.hear(home, now, (plane, kernel), &mut news);
        }
        while let Some(done) = self.errands.done() {
            self.take_in(done, now, (plane, kernel), &mut news);
        }
        let due = self.surveyed.is_none_or(|then| now.saturating_sub(then) >= SURVEY);
        if due && !self.surveying {
            self.surveyed = Some(now);
            self.look(kernel);
        }
        self.stats.wanted = 0;
        for worker in 0..self.seats.len() {
            let of = self.survey.share(worker, self.seats.len());
            self.stats.wanted += of.len();
            self.see_to(worker, of, now, (plane, kernel), &mut news);
        }
        news
    }

    /// What a worker says of its queues, or the queues themselves.
    fn hear(
        &mut self,
        home: Home,
        now: Duration,
        (plane, kernel): (&mut Dataplane, &mut Kernel),
        news: &mut Vec<News>,
    ) {
        match home {
            Home::Trouble { worker, error } => {
                let seat = &mut self.seats[worker];
                // on their way already, for another reason
                let State::With { since } = seat.state else { return };
                if now.saturating_sub(since) >= RETRY_MAX {
                    seat.patience = RETRY;
                }
                let pause = seat.pause();
                let next = format!("in {pause:?}");
                news.push(News::Lost { worker, why: error.to_string(), next });
                self.ask(worker, pause, (plane, kernel));
            }
            Home::Back { worker, frames } => {
                self.errands.send(Errand::Close { worker, frames });
            }
        }
    }

    /// What was done.
    fn take_in(
        &mut self,
        done: Done,
        now: Duration,
        (plane, kernel): (&mut Dataplane, &mut Kernel),
        news: &mut Vec<News>,
    ) {
        match done {
            Done::Looked(survey) => self.see(survey, kernel, news),
            Done::Opened { worker, of, opened } => {
                self.take_over(worker, of, opened, now, (plane, kernel), news);
            }
            Done::Tried { worker, free } => {
                let seat = &mut self.seats[worker];
                seat.trying = false;
                if !matches!(seat.state, State::With { .. }) {
                    return; // they are on their way already
                }
                if let Some(Want { name, queue, .. }) = free {
                    news.push(News::Anew { worker, why: format!("{name}/{queue} can be had now") });
                    self.ask(worker, SETTLING, (plane, kernel));
                } else {
                    self.stats.refused += seat.refused.len() as u64;
                    seat.again = now + seat.pause();
                }
            }
            Done::Closed { worker } => {
                let seat = &mut self.seats[worker];
                let pause = match seat.state {
                    State::Asked { pause } => pause,
                    _ => RETRY,
                };
                seat.state = State::Without { settled: now + SETTLING, retry: now + pause };
            }
        }
    }

    /// Looks after one worker, which should have the queues `of`.
    fn see_to(
        &mut self,
        worker: usize,
        of: Vec<Want>,
        now: Duration,
        (plane, kernel): (&mut Dataplane, &mut Kernel),
        news: &mut Vec<News>,
    ) {
        let seat = &self.seats[worker];
        match seat.state {
            State::With { .. } if seat.of != of => {
                let why = self.survey.difference(&seat.of, &of);
                news.push(match of.is_empty() {
                    true => {
                        let next = "when an interface can be served".to_owned();
                        News::Lost { worker, why, next }
                    }
                    false => News::Anew { worker, why },
                });
                self.seats[worker].patience = RETRY;
                self.ask(worker, SETTLING, (plane, kernel));
            }
            State::With { .. } if !seat.refused.is_empty() && !seat.trying && seat.again <= now => {
                let refused = seat.refused.clone();
                self.seats[worker].trying = self.errands.send(Errand::Try { worker, refused });
            }
            State::Without { settled, retry } if !of.is_empty() && settled <= now => {
                if seat.of != of {
                    self.seats[worker].patience = RETRY;
                } else if retry > now {
                    return;
                }
                if self.errands.send(Errand::Open { worker, of }) {
                    self.seats[worker].state = State::Opening;
                }
            }
            _ => {}
        }
    }

    /// Asks for a worker's queues, once nothing comes to them any more.
    fn ask(
        &mut self,
        worker: usize,
        pause: Duration,
        (plane, kernel): (&mut Dataplane, &mut Kernel),
    ) {
        self.stats.lost += 1;
        let seat = &mut self.seats[worker];
        for want in &seat.of {
            kernel.punting().unset_socket(want.interface, want.queue);
        }
        seat.state = State::Asked { pause };
        plane.ask_frames(worker);
    }

    /// Has the interfaces with the fast path looked at.
    fn look(&mut self, kernel: &Kernel) {
        let asked = Asked { copying: self.copying, program_forwards: kernel.forwards() };
        let secured = kernel.is_secured();
        let interface = |(index, name): (u32, &str)| Interface {
            index,
            name: name.to_owned(),
            up: kernel.is_up(index),
            secured,
        };
        let interfaces = kernel.attached().map(interface).collect();
        let before = self.survey.clone();
        self.surveying = self.errands.send(Errand::Look { asked, interfaces, before });
    }

    /// What is to be served from now on.
    fn see(&mut self, survey: Survey, kernel: &mut Kernel, news: &mut Vec<News>) {
        self.surveying = false;
        for interface in self.survey.interfaces().filter(|interface| !survey.has(*interface)) {
            kernel.punting().forget_interface(interface);
        }
        let unsuited = || survey.absent.iter().filter(|absent| absent.unsuited);
        self.unsuited.retain(|name, _| unsuited().any(|absent| absent.name == *name));
        for absent in unsuited() {
            let (interface, why) = (absent.name.clone(), absent.why.clone());
            if self.unsuited.insert(interface.clone(), why.clone()).as_ref() != Some(&why) {
                news.push(News::Unsuited { interface, why });
            }
        }
        self.survey = survey;
    }

    /// Gives a worker the queues that were opened for it.
    fn take_over(
        &mut self,
        worker: usize,
        of: Vec<Want>,
        opened: Result<Opened, Error>,
        now: Duration,
        (plane, kernel): (&mut Dataplane, &mut Kernel),
        news: &mut Vec<News>,
    ) {
        let (frames, failed) = match opened {
            Ok(opened) => self.show(worker, opened, kernel),
            Err(error) => (None, of.iter().map(|want| (want.clone(), error.to_string())).collect()),
        };
        let seat = &mut self.seats[worker];
        self.stats.refused += failed.len() as u64;
        let mut why: Vec<&str> = failed.iter().map(|(_, why)| why.as_str()).collect();
        why.dedup();
        let why = why.join("; ");
        let pause = if failed.is_empty() { RETRY } else { seat.pause() };
        let next = format!("in {pause:?}, then ever more seldom, at least each {RETRY_MAX:?}");
        let is_new = !failed.is_empty() && seat.told.as_ref() != Some(&why);
        seat.told = (!failed.is_empty()).then(|| why.clone());
        seat.of = of;
        seat.refused.clear();
        let Some(frames) = frames else {
            seat.state = State::Without { settled: now, retry: now + pause };
            news.extend(is_new.then_some(News::Lost { worker, why, next }));
            return;
        };
        let names: Vec<String> = frames
            .lanes
            .iter()
            .map(|lane| format!("{}/{}", lane.queue.interface(), lane.queue.number()))
            .collect();
        let zero_copy = frames.lanes.iter().all(|lane| lane.queue.mode().zero_copy);
        if let Err(error) = plane.give_frames(worker, frames) {
            seat.state = State::Without { settled: now + SETTLING, retry: now + pause };
            news.push(News::Lost { worker, why: error.to_string(), next });
            return;
        }
        self.stats.opened += 1;
        seat.refused.extend(failed.into_iter().map(|(want, _)| want));
        (seat.state, seat.again) = (State::With { since: now }, now + pause);
        news.push(News::Open { worker, queues: names.join(" "), zero_copy });
        news.extend(is_new.then_some(News::Part { worker, why, next }));
    }

    /// Has the program hand frames to the queues; what it cannot is refused like what was not opened.
    fn show(
        &self,
        worker: usize,
        opened: Opened,
        kernel: &mut Kernel,
    ) -> (Option<Box<Frames>>, Refused) {
        let Opened { umem, lanes, mut refused } = opened;
        let mut shown: Vec<Lane> = Vec::new();
        for (want, lane) in lanes {
            let fd = lane.queue.as_fd();
            // it may have gone meanwhile, and its slots with it
            let why = match self.survey.has(want.interface) {
                false => "the interface is gone".to_owned(),
                true => match kernel.punting().set_socket(want.interface, want.queue, fd) {
                    Ok(()) => {
                        shown.push(lane);
                        continue;
                    }
                    Err(error) => error.to_string(),
                },
            };
            let why = format!("queue {} of {}: {why}", want.queue, want.name);
            refused.push((want, why));
        }
        if shown.is_empty() {
            return (None, refused);
        }
        let frames =
            Frames::new(umem, shown, Arc::clone(&self.tables), self.way_home.clone(), worker);
        (Some(Box::new(frames)), refused)
    }
}
