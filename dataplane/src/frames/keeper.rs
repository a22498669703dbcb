//! The control thread's side: opens queues, gives them to workers, takes them back, tries again.
//!
//! ```text
//!   Without ──open, give──> With ──interfaces changed, a queue failed,──> Asked ──┐
//!      ^                           one that was refused is free: ask              │
//!      └───────────── closed; after a while <── the worker gave them back ────────┘
//! ```
//!
//! A worker's queues come and go together, with the memory that they share. Before they are asked
//! for, their places in the program's map are emptied: the stack has what comes from then on, and
//! the worker has time for what it has received.

use super::suited::{Asked, suited};
use super::survey::{Survey, Want};
use super::{BURST_MAX, Frames, Home, Lane, Unsuited};
use crate::kernel::{FrameTables, Kernel};
use crate::link::xsk::{self, Error, FrameSize, Options, Queue, Umem};
use crate::plane::Dataplane;
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

/// Entries of each ring of a queue.
const RING: u32 = 1024;

/// The same of a queue that is opened only to see whether it can be.
const PROBE_RING: u32 = 64;

/// Which interfaces get AF_XDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copying {
    /// Those that advertise zero copy, and without copies only: what copies is slower than sockets.
    /// Where the program forwards, those only whose drivers are known to send that as well.
    Auto,
    /// All, with copies.
    Copy,
    /// All, without copies or not at all, but for drivers that are known to lose what the program
    /// forwards.
    Zero,
}

/// What happened to a worker's queues, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A worker has queues.
    Open {
        /// Its number.
        worker: usize,
        /// The queues, as `eth0/0`.
        queues: String,
        /// True when none of them copies.
        zero_copy: bool,
    },
    /// It has none of these, or no more: sockets carry their traffic.
    Lost {
        /// Its number.
        worker: usize,
        /// Why, with interface and queue.
        why: String,
        /// When it is tried again, in words.
        next: String,
    },
    /// It has queues, but not all that it should: sockets carry the others' traffic.
    Part {
        /// Its number.
        worker: usize,
        /// Which were refused, and why.
        why: String,
        /// When they are tried again, in words.
        next: String,
    },
    /// An interface has none by choice.
    Unsuited {
        /// Its name.
        interface: String,
        /// Why.
        why: String,
    },
}

/// Counts, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeeperStats {
    /// Times that a worker was given queues.
    pub opened: u64,
    /// Times that queues were lost to a fault or a change.
    pub lost: u64,
    /// Times that a queue could not be opened.
    pub refused: u64,
    /// Queues that the workers should have now.
    pub wanted: usize,
}

/// Queues that could not be had, and why.
type Refused = Vec<(Want, String)>;

enum State {
    Without {
        /// Not before: a queue that was closed a moment ago is in use for a moment more.
        settled: Duration,
        /// Unless the interfaces change.
        retry: Duration,
    },
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
    survey: Survey,
    surveyed: Option<Duration>,
    /// Interfaces that have none by choice, and what was told of them.
    unsuited: HashMap<String, String>,
    stats: KeeperStats,
}

impl Keeper {
    /// For the workers of `plane` and the interfaces of `kernel`, which was attached with something
    /// to punt. Nothing is opened yet.
    ///
    /// # Errors
    /// The program's tables cannot be mapped.
    pub fn new(copying: Copying, plane: &Dataplane, kernel: &Kernel) -> io::Result<Keeper> {
        let tables = kernel.frame_tables().map_err(|error| io::Error::other(error.to_string()))?;
        let (way_home, home) = mpsc::channel();
        let seat = || Seat {
            state: State::Without { settled: Duration::ZERO, retry: Duration::ZERO },
            of: Vec::new(),
            refused: Vec::new(),
            again: Duration::ZERO,
            patience: RETRY,
            told: None,
        };
        Ok(Keeper {
            copying,
            tables: Arc::new(tables),
            seats: (0..plane.udp_workers()).map(|_| seat()).collect(),
            home,
            way_home,
            survey: Survey::default(),
            surveyed: None,
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
        let mut found = None;
        for interface in interfaces {
            match suited(asked, interface, interfaces.iter().copied()) {
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

    /// To be called about every second, and at the start. `now` is CLOCK_MONOTONIC. Opening a queue
    /// may take some tens of milliseconds: the driver starts it anew.
    pub fn tick(&mut self, now: Duration, plane: &mut Dataplane, kernel: &mut Kernel) -> Vec<News> {
        let mut news = Vec::new();
        while let Ok(home) = self.home.try_recv() {
            self.hear(home, now, (plane, kernel), &mut news);
        }
        if self.surveyed.is_none_or(|then| now.saturating_sub(then) >= SURVEY) {
            self.surveyed = Some(now);
            self.look(kernel, &mut news);
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
                drop(frames);
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
                let next = match of.is_empty() {
                    true => "when an interface can be served".to_owned(),
                    false => "in a moment, with what there is".to_owned(),
                };
                news.push(News::Lost { worker, why, next });
                self.seats[worker].patience = RETRY;
                self.ask(worker, SETTLING, (plane, kernel));
            }
            State::With { .. } if !seat.refused.is_empty() && seat.again <= now => {
                let free = seat.refused.iter().find(|want| self.can_be_had(want));
                if let Some(want) = free {
                    let why = format!("{}/{} can be had now", want.name, want.queue);
                    let next = "in a moment, with all".to_owned();
                    news.push(News::Lost { worker, why, next });
                    self.ask(worker, SETTLING, (plane, kernel));
                } else {
                    self.stats.refused += seat.refused.len() as u64;
                    let seat = &mut self.seats[worker];
                    seat.again = now + seat.pause();
                }
            }
            State::Without { settled, retry } if !of.is_empty() && settled <= now => {
                if seat.of != of {
                    self.seats[worker].patience = RETRY;
                } else if retry > now {
                    return;
                }
                self.open(worker, of, now, (plane, kernel), news);
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

    /// Looks at the interfaces with the fast path.
    fn look(&mut self, kernel: &mut Kernel, news: &mut Vec<News>) {
        let asked = Asked { copying: self.copying, program_forwards: kernel.forwards() };
        let survey = Survey::look(asked, kernel, &self.survey);
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

    /// How queues are opened.
    fn options(&self, entries: u32) -> Options {
        let copying = match self.copying {
            Copying::Copy => xsk::Copying::Copy,
            Copying::Auto | Copying::Zero => xsk::Copying::Zero,
        };
        Options { copying, entries, busy_poll: None }
    }

    fn frame_size(&self) -> FrameSize {
        match self.copying {
            // what the program hands over fits
            Copying::Copy => FrameSize::Bytes2048,
            Copying::Auto | Copying::Zero => FrameSize::Bytes4096,
        }
    }

    /// Opens a queue that was refused for a moment.
    fn can_be_had(&self, want: &Want) -> bool {
        let Ok(mut umem) = Umem::new(PROBE_RING, self.frame_size()) else { return false };
        Queue::open(&want.name, want.queue, &mut umem, &self.options(PROBE_RING)).is_ok()
    }

    fn open(
        &mut self,
        worker: usize,
        of: Vec<Want>,
        now: Duration,
        (plane, kernel): (&mut Dataplane, &mut Kernel),
        news: &mut Vec<News>,
    ) {
        let (frames, failed) = match self.open_all(worker, &of, kernel) {
            Ok(opened) => opened,
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

    /// Opens what can be opened; what was refused beside it, and why.
    fn open_all(
        &self,
        worker: usize,
        of: &[Want],
        kernel: &mut Kernel,
    ) -> Result<(Option<Box<Frames>>, Refused), Error> {
        // what each may receive into, what waits to be sent, and a burst
        let frames = of.len() as u32 * 2 * RING + BURST_MAX as u32;
        let mut umem = Umem::new(frames, self.frame_size())?;
        let options = self.options(RING);
        let (mut lanes, mut failed) = (Vec::new(), Vec::new());
        for want in of {
            let Want { interface, name, queue: number, .. } = want;
            match Queue::open(name, *number, &mut umem, &options) {
                Ok(queue) => {
                    let set = kernel.punting().set_socket(*interface, *number, queue.as_fd());
                    match set {
                        Ok(()) => lanes.push(Lane::new(queue, *interface)),
                        Err(error) => {
                            failed
                                .push((want.clone(), format!("queue {number} of {name}: {error}")));
                        }
                    }
                }
                Err(error) => failed.push((want.clone(), error.to_string())),
            }
        }
        if lanes.is_empty() {
            return Ok((None, failed));
        }
        let frames =
            Frames::new(umem, lanes, Arc::clone(&self.tables), self.way_home.clone(), worker);
        Ok((Some(Box::new(frames)), failed))
    }
}
