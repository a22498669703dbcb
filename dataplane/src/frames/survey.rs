//! Where workers could have queues, and what changed since they were given theirs.
//!
//! ```text
//!   interfaces with the program ──look──> up? suited? how many queues, what MTU? ──> Places
//!   Places ──share(worker)──> each n-th queue of each ──> Wants of one worker
//! ```

use crate::link::xsk;
use std::io;
use wire::QUEUES_MAX;

use super::suited::{Asked, Facts, suited};

/// An interface with the program.
#[derive(Clone, Debug)]
pub(super) struct Interface {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) up: bool,
    /// IPsec policies are about what comes by it.
    pub(super) secured: bool,
}

/// AF_XDP is in front of the stack, which alone can tell what came encrypted.
const SECURED: &str = "IPsec policies are about the relay's addresses";

/// A queue that one worker is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Want {
    /// The interface's index.
    pub(super) interface: u32,
    /// And its name.
    pub(super) name: String,
    pub(super) queue: u32,
}

/// An interface that can have AF_XDP.
#[derive(Clone, Debug)]
struct Place {
    interface: u32,
    name: String,
    queues: u32,
}

/// All interfaces with the program.
#[derive(Clone, Debug, Default)]
pub(super) struct Survey {
    places: Vec<Place>,
    /// Those that can have none now, and why.
    pub(super) absent: Vec<Absent>,
}

/// An interface without AF_XDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Absent {
    pub(super) name: String,
    pub(super) why: String,
    /// By its kind or its settings, and not for a while.
    pub(super) unsuited: bool,
}

impl Survey {
    /// Asks the kernel, each interface once. Where it has no answer (no descriptors are left to ask it
    /// by), what was known `before` is still good: news of an interface that is gone come in another
    /// way.
    pub(super) fn look(asked: Asked, interfaces: &[Interface], before: &Survey) -> Survey {
        let facts = |one: &Interface| Facts::of(asked, &one.name);
        let facts: Vec<io::Result<Facts>> = interfaces.iter().map(facts).collect();
        let all = || facts.iter().filter_map(|facts| facts.as_ref().ok());
        let mut survey = Survey::default();
        for (Interface { index, name, up, secured }, own) in interfaces.iter().zip(&facts) {
            let (interface, name) = (*index, name.clone());
            let known = before.places.iter().find(|place| place.interface == interface);
            let found = match own {
                _ if *secured => Ok(Err((SECURED.to_owned(), true))),
                _ if !up => Ok(Err(("the interface is down".to_owned(), false))),
                Ok(own) => queues(asked, own, all()),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            };
            match (found, known) {
                (Ok(Ok(queues)), _) => survey.places.push(Place { interface, name, queues }),
                (Err(_), Some(known)) => survey.places.push(known.clone()),
                (Ok(Err((why, unsuited))), _) => survey.absent.push(Absent { name, why, unsuited }),
                (Err(error), None) => {
                    let why = error.to_string();
                    survey.absent.push(Absent { name, why, unsuited: false });
                }
            }
        }
        survey
    }

    /// The queues of worker `worker` of `workers`: each n-th of every interface.
    pub(super) fn share(&self, worker: usize, workers: usize) -> Vec<Want> {
        let of = |place: &Place| {
            let Place { interface, name, queues } = place.clone();
            let each = (worker as u32..queues).step_by(workers);
            each.map(move |queue| Want { interface, name: name.clone(), queue })
        };
        self.places.iter().flat_map(of).collect()
    }

    /// True when `interface` can have queues.
    pub(super) fn has(&self, interface: u32) -> bool {
        self.places.iter().any(|place| place.interface == interface)
    }

    /// The interfaces that can.
    pub(super) fn interfaces(&self) -> impl Iterator<Item = u32> {
        self.places.iter().map(|place| place.interface)
    }

    /// In words: why a worker's queues are to be others than they were.
    pub(super) fn difference(&self, before: &[Want], after: &[Want]) -> String {
        let mut words: Vec<String> = Vec::new();
        for want in before.iter().filter(|want| !after.contains(want)) {
            let at = format!("{}/{}", want.name, want.queue);
            words.push(format!("{at}: {}", self.fate(want)));
        }
        let is_new = |want: &&Want| {
            !before.iter().any(|old| old.name == want.name && old.queue == want.queue)
        };
        for want in after.iter().filter(is_new) {
            words.push(format!("{}/{} can be had", want.name, want.queue));
        }
        words.join("; ")
    }

    /// What became of a queue that is no more.
    fn fate(&self, want: &Want) -> String {
        if let Some(absent) = self.absent.iter().find(|absent| absent.name == want.name) {
            return absent.why.clone();
        }
        match self.places.iter().find(|place| place.name == want.name) {
            None => "the kernel program is not on the interface any more".to_owned(),
            Some(place) if place.interface != want.interface => {
                "the interface was made anew".to_owned()
            }
            Some(place) => format!("its interface has only {} now", place.queues),
        }
    }
}

/// Why an interface has no AF_XDP, and whether it is unsuited for it.
type Refusal = (String, bool);

/// How many queues an interface has, if it is one for AF_XDP.
fn queues<'a>(
    asked: Asked,
    own: &Facts,
    all: impl Iterator<Item = &'a Facts>,
) -> io::Result<Result<u32, Refusal>> {
    if let Err(unsuited) = suited(asked, own, all) {
        return Ok(Err((unsuited.why().to_owned(), true)));
    }
    Ok(Ok(xsk::queues(&own.name)?.min(QUEUES_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(interface: u32, name: &str, queues: u32) -> Place {
        Place { interface, name: name.to_owned(), queues }
    }

    fn survey(places: &[Place]) -> Survey {
        Survey { places: places.to_vec(), absent: Vec::new() }
    }

    fn names(wants: &[Want]) -> Vec<String> {
        wants.iter().map(|want| format!("{}/{}", want.name, want.queue)).collect()
    }

    #[test]
    fn every_queue_is_one_workers() {
        let survey = survey(&[place(2, "eth0", 5), place(3, "eth1", 1)]);
        assert_eq!(names(&survey.share(0, 2)), ["eth0/0", "eth0/2", "eth0/4", "eth1/0"]);
        assert_eq!(names(&survey.share(1, 2)), ["eth0/1", "eth0/3"]);
        assert_eq!(names(&survey.share(0, 1)).len(), 6);
        assert!(survey.share(7, 8).is_empty(), "more workers than queues");
    }

    #[test]
    fn what_changed_is_said_with_the_queue_and_the_reason() {
        let before = survey(&[place(2, "eth0", 2), place(3, "eth1", 1)]).share(0, 1);
        let told = |places: &[Place], absent: &[(&str, &str)]| {
            let mut after = survey(places);
            after.absent = absent
                .iter()
                .map(|(name, why)| Absent {
                    name: (*name).to_owned(),
                    why: (*why).to_owned(),
                    unsuited: false,
                })
                .collect();
            after.difference(&before, &after.share(0, 1))
        };
        let (two, one) = (place(2, "eth0", 2), place(3, "eth1", 1));
        assert_eq!(told(&[two.clone(), one.clone()], &[]), "");
        assert_eq!(
            told(&[place(2, "eth0", 1), one.clone()], &[]),
            "eth0/1: its interface has only 1 now"
        );
        assert_eq!(told(&[place(2, "eth0", 3), one.clone()], &[]), "eth0/2 can be had");
        let down = told(std::slice::from_ref(&one), &[("eth0", "the interface is down")]);
        assert_eq!(down, "eth0/0: the interface is down; eth0/1: the interface is down");
        let gone = told(std::slice::from_ref(&two), &[]);
        assert_eq!(gone, "eth1/0: the kernel program is not on the interface any more");
        assert_eq!(
            told(&[two.clone(), place(9, "eth1", 1)], &[]),
            "eth1/0: the interface was made anew"
        );
    }
}
