//! The control thread's side: opens queues, gives them to workers, takes them back, tries again.
//!
//! ```text
//!   Without ──open, give──> With ──interfaces changed: ask──> Asked ──┐
//!      ^                      └──── the worker gave them back ────────┤
//!      └───────────────── closed; after a while ──────────────────────┘
//! ```
//!
//! A worker's queues come and go together, with the memory that they share.

use super::{BURST_MAX, Frames, Home, Lane};
use crate::kernel::{FrameTables, Kernel};
use crate::link::xsk::{self, Error, FrameSize, Options, Queue, Umem};
use crate::plane::Dataplane;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use wire::QUEUES_MAX;

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

/// Which interfaces get AF_XDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copying {
    /// Those that advertise zero copy, and without copies only: what copies is slower than sockets.
    Auto,
    /// All, with copies.
    Copy,
    /// All, without copies or not at all.
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
        /// Why.
        why: String,
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
}

/// Where a worker could have queues: interface index, name, how many it has.
type Survey = Vec<(u32, String, u32)>;

enum State {
    Without {
        retry: Duration,
    },
    With,
    /// Asked to give them back.
    Asked,
}

struct Seat {
    state: State,
    /// What its queues were opened for.
    of: Survey,
    patience: Duration,
    /// What was told last, so that a refusal is told once.
    told: Option<String>,
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
    unsuited: Vec<(String, String)>,
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
            state: State::Without { retry: Duration::ZERO },
            of: Survey::new(),
            patience: RETRY,
            told: None,
        };
        Ok(Keeper {
            copying,
            tables: Arc::new(tables),
            seats: (0..plane.udp_workers()).map(|_| seat()).collect(),
            home,
            way_home,
            survey: Survey::new(),
            surveyed: None,
            unsuited: Vec::new(),
            stats: KeeperStats::default(),
        })
    }

    /// True for an interface whose driver advertises AF_XDP without copies.
    pub fn suits(interface: &str) -> bool {
        matches!(xsk::zero_copy_advertised(interface), Ok(Some(true)))
    }

    /// Counts, for the metrics.
    pub fn stats(&self) -> KeeperStats {
        self.stats
    }

    /// To be called about every second, and at the start. `now` is CLOCK_MONOTONIC. Opening a queue
    /// may take some tens of milliseconds: the driver starts it anew.
    pub fn tick(&mut self, now: Duration, plane: &mut Dataplane, kernel: &mut Kernel) -> Vec<News> {
        let mut news = Vec::new();
        while let Ok(Home { worker, frames, error }) = self.home.try_recv() {
            drop(frames);
            let seat = &mut self.seats[worker];
            // a queue that was closed a moment ago is in use for a moment more
            seat.state = State::Without { retry: now + SETTLING };
            if let Some(error) = error {
                self.stats.lost += 1;
                seat.state = State::Without { retry: now + RETRY };
                news.push(News::Lost { worker, why: error.to_string() });
            }
        }
        if self.surveyed.is_none_or(|then| now.saturating_sub(then) >= SURVEY) {
            self.surveyed = Some(now);
            self.look(kernel, &mut news);
        }
        for worker in 0..self.seats.len() {
            let of = self.share(worker);
            let seat = &mut self.seats[worker];
            match seat.state {
                State::With if seat.of != of => {
                    seat.state = State::Asked;
                    self.stats.lost += 1;
                    let why = "the interfaces or their queues changed".to_owned();
                    news.push(News::Lost { worker, why });
                    plane.ask_frames(worker);
                }
                State::Without { retry } if !of.is_empty() && retry <= now => {
                    self.open(worker, of, now, (plane, kernel), &mut news);
                }
                _ => {}
            }
        }
        news
    }

    /// Looks at the interfaces with the fast path.
    fn look(&mut self, kernel: &mut Kernel, news: &mut Vec<News>) {
        let attached: Vec<(u32, String)> =
            kernel.attached().map(|(index, name)| (index, name.to_owned())).collect();
        let mut survey = Survey::new();
        for (index, name) in attached {
            if !kernel.is_up(index) {
                continue;
            }
            let suited = self.suited(&name);
            let queues = xsk::queues(&name);
            match (suited, queues) {
                (Ok(()), Ok(queues)) => survey.push((index, name, queues.min(QUEUES_MAX))),
                (Err(why), _) => self.tell_unsuited(name, why, news),
                // it is gone: news of that are on their way
                (_, Err(_)) => {}
            }
        }
        for (index, ..) in &self.survey {
            if !survey.iter().any(|(other, ..)| other == index) {
                kernel.punting().forget_interface(*index);
            }
        }
        self.survey = survey;
    }

    fn suited(&self, name: &str) -> Result<(), String> {
        if self.copying != Copying::Auto {
            return Ok(());
        }
        match xsk::zero_copy_advertised(name) {
            Ok(Some(true)) => Ok(()),
            Ok(Some(false)) => Err("its driver has no AF_XDP without copies".to_owned()),
            Ok(None) => Err("this kernel does not say what its driver can (Linux 6.3)".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn tell_unsuited(&mut self, interface: String, why: String, news: &mut Vec<News>) {
        let told = (interface, why);
        if !self.unsuited.contains(&told) {
            let (interface, why) = told.clone();
            self.unsuited.push(told);
            news.push(News::Unsuited { interface, why });
        }
    }

    /// The queues of one worker: each n-th of every interface.
    fn share(&self, worker: usize) -> Survey {
        let has = |(_, _, queues): &&(u32, String, u32)| (*queues as usize) > worker;
        self.survey.iter().filter(has).cloned().collect()
    }

    fn open(
        &mut self,
        worker: usize,
        of: Survey,
        now: Duration,
        (plane, kernel): (&mut Dataplane, &mut Kernel),
        news: &mut Vec<News>,
    ) {
        let opened = self.open_all(worker, &of, kernel);
        let (frames, failed) = match opened {
            Ok(opened) => opened,
            Err(error) => (None, vec![error.to_string()]),
        };
        let seat = &mut self.seats[worker];
        self.stats.refused += failed.len() as u64;
        let why = failed.join("; ");
        if !failed.is_empty() && seat.told.as_ref() != Some(&why) {
            news.push(News::Lost { worker, why: why.clone() });
        }
        seat.told = (!failed.is_empty()).then_some(why);
        let Some(frames) = frames else {
            seat.state = State::Without { retry: now + seat.patience };
            seat.patience = (seat.patience * 2).min(RETRY_MAX);
            return;
        };
        let names: Vec<String> = frames
            .lanes
            .iter()
            .map(|lane| format!("{}/{}", lane.queue.interface(), lane.queue.number()))
            .collect();
        let zero_copy = frames.lanes.iter().all(|lane| lane.queue.mode().zero_copy);
        if let Err(error) = plane.give_frames(worker, frames) {
            seat.state = State::Without { retry: now + RETRY };
            news.push(News::Lost { worker, why: error.to_string() });
            return;
        }
        self.stats.opened += 1;
        (seat.state, seat.of, seat.patience) = (State::With, of, RETRY);
        news.push(News::Open { worker, queues: names.join(" "), zero_copy });
    }

    /// Opens what can be opened; what was refused beside it.
    fn open_all(
        &self,
        worker: usize,
        of: &Survey,
        kernel: &mut Kernel,
    ) -> Result<(Option<Box<Frames>>, Vec<String>), Error> {
        let (copying, size) = match self.copying {
            Copying::Copy => (xsk::Copying::Copy, FrameSize::Bytes2048),
            Copying::Auto | Copying::Zero => (xsk::Copying::Zero, FrameSize::Bytes4096),
        };
        let step = self.seats.len();
        let numbers: Vec<(u32, &str, u32)> = of
            .iter()
            .flat_map(|(index, name, queues)| {
                let each = (worker as u32..*queues).step_by(step);
                each.map(move |queue| (*index, name.as_str(), queue))
            })
            .collect();
        // what each may receive into, what waits to be sent, and a burst
        let frames = numbers.len() as u32 * 2 * RING + BURST_MAX as u32;
        let mut umem = Umem::new(frames, size)?;
        let options = Options { copying, entries: RING, busy_poll: None };
        let (mut lanes, mut failed) = (Vec::new(), Vec::new());
        for (interface, name, number) in numbers {
            match Queue::open(name, number, &mut umem, &options) {
                Ok(queue) => {
                    let set = kernel.punting().set_socket(interface, number, queue.as_fd());
                    match set {
                        Ok(()) => lanes.push(Lane { queue, interface, seen: Default::default() }),
                        Err(error) => failed.push(format!("{name} queue {number}: {error}")),
                    }
                }
                Err(error) => failed.push(error.to_string()),
            }
        }
        if lanes.is_empty() {
            return Ok((None, failed));
        }
        let frames = Frames {
            umem,
            lanes,
            tables: Arc::clone(&self.tables),
            received: Vec::with_capacity(BURST_MAX),
            home: self.way_home.clone(),
            worker,
            looked: Duration::ZERO,
        };
        Ok((Some(Box::new(frames)), failed))
    }
}
