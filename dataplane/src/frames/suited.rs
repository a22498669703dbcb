//! Which interfaces get queues that copy nothing, so that nothing is lost by it.
//!
//! ```text
//!   frame in a worker's memory ──program: XDP_TX, redirect──> a page with a copy of it, and no room in
//!                                                             front (xdp_convert_zc_to_xdp_frame)
//!        i40e, ice, igb, ...  sent as it is, or without that copy
//!        virtio_net           wants room for a header of its own: dropped (EOVERFLOW), each and always
//! ```
//!
//! What the program forwards from such a queue must leave by a driver that needs no such room. There is
//! nothing to try it with (a test run of the program does not come by the driver, and nobody sends frames
//! to be sent back), so the drivers are known by name: `auto` takes those that are known to send, and an
//! express `zero-copy` all but those that are known to lose. Where workers forward
//! (`--xdp-forward workers`), frames leave by the tx ring, and any driver does.

use super::Copying;
use crate::link::xsk;
use std::io;

/// Drivers that send such frames: seen in a guest (igb), or read in their published source:
/// the page is mapped and sent as it is (i40e, igc, ixgbe, mlx5_core), or there is none (ice).
const SENDING: [&str; 6] = ["i40e", "ice", "igb", "igc", "ixgbe", "mlx5_core"];

/// Drivers that are known to drop them: seen in guests of Linux 6.18.
const LOSING: [&str; 1] = ["virtio_net"];

/// What AF_XDP is to do where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) copying: Copying,
    /// The program forwards; else workers do.
    pub(crate) program_forwards: bool,
}

/// Why an interface is left without AF_XDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsuited {
    /// Its driver has no AF_XDP without copies, or the kernel does not say so.
    Copies(String),
    /// It would lose what the kernel program forwards, or may do so.
    Loses(String),
}

impl Unsuited {
    /// In words.
    pub fn why(&self) -> &str {
        match self {
            Unsuited::Copies(why) | Unsuited::Loses(why) => why,
        }
    }
}

/// What the kernel says of an interface, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) name: String,
    /// It advertises queues that copy nothing; `None` from a kernel that cannot say.
    zero_copy: Option<bool>,
    /// Its driver; `None` where the kernel does not tell.
    driver: Option<String>,
}

impl Facts {
    /// Asks for what `asked` needs.
    ///
    /// # Errors
    /// There is no such interface; the kernel cannot be asked.
    pub(super) fn of(asked: Asked, name: &str) -> io::Result<Facts> {
        let mut facts = Facts { name: name.to_owned(), zero_copy: None, driver: None };
        if asked.copying == Copying::Auto {
            facts.zero_copy = xsk::zero_copy_advertised(name)?;
        }
        if asked.needs_sending() {
            facts.driver = xsk::driver(name)?;
        }
        Ok(facts)
    }
}

impl Asked {
    /// What the program forwards must leave from queues that copy nothing.
    fn needs_sending(self) -> bool {
        self.copying != Copying::Copy && self.program_forwards
    }
}

/// Whether the interface `own`, which has the program as `all` have, is one for AF_XDP. An interface
/// that is gone is not among `all`: nothing is forwarded to it.
pub(super) fn suited<'a>(
    asked: Asked,
    own: &Facts,
    all: impl Iterator<Item = &'a Facts>,
) -> Result<(), Unsuited> {
    let copies = |why: &str| Err(Unsuited::Copies(why.to_owned()));
    if asked.copying == Copying::Auto {
        match own.zero_copy {
            Some(true) => {}
            Some(false) => return copies("its driver has no AF_XDP without copies"),
            None => return copies("this kernel does not say what its driver can (Linux 6.3)"),
        }
    }
    if !asked.needs_sending() {
        return Ok(());
    }
    if let Some(why) = objection(asked.copying, own.driver.as_deref()) {
        return Err(Unsuited::Loses(format!("{why}: {WORKERS}")));
    }
    for other in all.filter(|other| other.name != own.name) {
        if let Some(why) = objection(asked.copying, other.driver.as_deref()) {
            let name = &other.name;
            let why = format!("the kernel program forwards to {name}, and there {why}: {WORKERS}");
            return Err(Unsuited::Loses(why));
        }
    }
    Ok(())
}

/// What there is to be done.
const WORKERS: &str = "--xdp-forward workers does without, and --af-xdp copy too";

/// What speaks against having the program's frames sent by a driver out of AF_XDP's memory.
fn objection(copying: Copying, driver: Option<&str>) -> Option<String> {
    match driver {
        Some(driver) if SENDING.contains(&driver) => None,
        Some(driver) if LOSING.contains(&driver) => Some(format!(
            "the driver {driver} loses what the kernel program forwards from AF_XDP queues that copy \
             nothing"
        )),
        _ if copying != Copying::Auto => None,
        driver => Some(format!(
            "{} is not known to send what the kernel program forwards from AF_XDP queues that copy \
             nothing",
            driver.map_or("its driver".to_owned(), |name| format!("the driver {name}"))
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_takes_drivers_that_send_and_zero_copy_all_but_those_that_lose() {
        let refused = |copying, driver| objection(copying, driver).is_some();
        for (driver, by_auto, by_request) in [
            (Some("igb"), false, false),
            (Some("mlx5_core"), false, false),
            (Some("virtio_net"), true, true),
            (Some("veth"), true, false),
            (Some(""), true, false),
            (None, true, false),
        ] {
            assert_eq!(refused(Copying::Auto, driver), by_auto, "{driver:?}, auto");
            assert_eq!(refused(Copying::Zero, driver), by_request, "{driver:?}, zero-copy");
        }
    }

    #[test]
    fn where_the_program_forwards_to_counts_as_well() {
        let facts = |name: &str, driver: &str| Facts {
            name: name.to_owned(),
            zero_copy: Some(true),
            driver: Some(driver.to_owned()),
        };
        let all = [facts("eth0", "igb"), facts("eth1", "ice"), facts("eth2", "virtio_net")];
        let with = |program_forwards, known: usize| {
            let asked = Asked { copying: Copying::Auto, program_forwards };
            suited(asked, &all[0], all[..known].iter())
        };
        assert_eq!(with(true, 2), Ok(()));
        let Err(Unsuited::Loses(why)) = with(true, 3) else { panic!("eth2 loses") };
        assert!(why.contains("forwards to eth2"), "{why}");
        assert_eq!(with(false, 3), Ok(()), "workers do");
        let silent = Facts { zero_copy: None, ..facts("eth3", "igb") };
        let asked = Asked { copying: Copying::Auto, program_forwards: false };
        assert!(matches!(suited(asked, &silent, all.iter()), Err(Unsuited::Copies(_))));
    }

    #[test]
    fn what_is_refused_is_named() {
        let why = objection(Copying::Zero, Some("virtio_net")).unwrap();
        assert!(why.contains("virtio_net loses what"), "{why}");
        let why = objection(Copying::Auto, Some("gve")).unwrap();
        assert!(why.contains("gve is not known"), "{why}");
        let why = objection(Copying::Auto, None).unwrap();
        assert!(why.starts_with("its driver is not known"), "{why}");
    }
}
