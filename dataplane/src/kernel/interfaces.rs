//! The configured interfaces: the program is attached to them, kept there, and comes back with them.
//!
//! Each call here may wait for the kernel's lock of network configuration (see
//! [`watch`](super::watch)): once the relay serves, only the watching thread makes them.

use std::os::fd::{AsFd, OwnedFd};

use super::attach::{self, AttachedInterface, XdpMode};
use super::error::AttachError;
use super::links::Links;
use super::netlink::Netlink;
use super::netlink::facts::LinkKind;
use super::tags::Untagging;

/// Where the program is now, and what changed since that was told last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Interfaces with the program: index and name.
    pub(crate) attached: Vec<(u32, String)>,
    /// Interfaces that came back and were attached to again.
    pub(crate) back: Vec<AttachedInterface>,
    /// Interfaces that are gone, or refused the program when they came back, and why.
    pub(crate) lost: Vec<(String, String)>,
}

/// One configured interface.
struct Port {
    name: String,
    /// While attached: the interface's index, and what keeps the program there.
    link: Option<(u32, OwnedFd)>,
    /// The number of the program that the link keeps there; `None` where the kernel does not tell.
    program: Option<u32>,
    /// Somebody took the program off: it is tried again until it is back.
    taken: bool,
    /// The index that was last tried in vain.
    refused: Option<u32>,
    /// Interfaces that leave VLAN tags in frames for us. Given back once the program is off.
    untagging: Vec<Untagging>,
}

impl Port {
    /// Takes the program off, and gives back what was changed for it.
    fn detach(&mut self) {
        self.link = None;
        self.untagging.clear();
    }

    /// Says what was changed for the program.
    fn describe(&self, attached: &mut AttachedInterface) {
        if self.untagging.iter().any(Untagging::was_on) {
            attached.why += "; rx-vlan-offload is off meanwhile, so that VLANs are told apart";
        }
    }
}

/// All of them. Dropping it detaches the program.
pub(crate) struct Interfaces {
    ports: Vec<Port>,
    program: OwnedFd,
    /// As configured.
    asked: XdpMode,
    /// As attached, everywhere.
    mode: XdpMode,
    /// Interfaces from this index on are out of the program's reach.
    index_end: u32,
}

impl Interfaces {
    /// Interfaces of these names, each given once, to none of which `program` is attached yet.
    pub(crate) fn new(
        names: impl Iterator<Item = String>,
        program: OwnedFd,
        mode: XdpMode,
        index_end: u32,
    ) -> Interfaces {
        let port = |name| Port {
            name,
            link: None,
            program: None,
            taken: false,
            refused: None,
            untagging: Vec::new(),
        };
        Interfaces { ports: names.map(port).collect(), program, asked: mode, mode, index_end }
    }

    /// Those with the program: index and name.
    pub(crate) fn attached(&self) -> Vec<(u32, String)> {
        let attached = |port: &Port| Some((port.link.as_ref()?.0, port.name.clone()));
        self.ports.iter().filter_map(attached).collect()
    }

    /// Attaches to every interface in one and the same mode, or fails.
    ///
    /// A driver that runs the program natively hands frames straight to the other driver, which
    /// loses them when it has no native XDP. So one that has none makes all generic.
    pub(crate) fn attach_all(
        &mut self,
        links: &Links,
        netlink: &mut Netlink,
    ) -> Result<Vec<AttachedInterface>, AttachError> {
        let mut attached = self.attach_each(links, netlink)?;
        let generic = attached.iter().find(|one| one.mode == XdpMode::Generic).cloned();
        self.mode = generic.as_ref().map_or(XdpMode::Native, |_| XdpMode::Generic);
        if let Some(reason) = generic
            && attached.iter().any(|one| one.mode == XdpMode::Native)
        {
            self.ports.iter_mut().for_each(|port| port.link = None);
            let why =
                format!("so that frames can cross to {}, which is: {}", reason.name, reason.why);
            let again = self.attach_each(links, netlink)?;
            let first = std::mem::replace(&mut attached, again);
            for (one, before) in attached.iter_mut().zip(first) {
                one.why = if before.mode == XdpMode::Generic { before.why } else { why.clone() };
            }
        }
        for (port, one) in self.ports.iter().zip(&mut attached) {
            port.describe(one);
        }
        Ok(attached)
    }

    fn attach_each(
        &mut self,
        links: &Links,
        netlink: &mut Netlink,
    ) -> Result<Vec<AttachedInterface>, AttachError> {
        (0..self.ports.len()).map(|at| self.attach_to(at, links, netlink)).collect()
    }

    fn attach_to(
        &mut self,
        at: usize,
        links: &Links,
        netlink: &mut Netlink,
    ) -> Result<AttachedInterface, AttachError> {
        let port = &mut self.ports[at];
        port.refused = links.named(&port.name).map(|link| link.index);
        let link = attach::suitable(links, &port.name, self.asked)?;
        if link.index >= self.index_end {
            let why = format!("its number, {}, is too high for the table; restart", link.index);
            return Err(AttachError::Unsuitable { name: link.name.clone(), why });
        }
        if (self.asked, self.mode) == (XdpMode::Auto, XdpMode::Native)
            && link.kind == LinkKind::Veth
        {
            let why = format!("{}; or restart, for generic mode", attach::VETH_IS_GENERIC);
            return Err(AttachError::Unsuitable { name: link.name.clone(), why });
        }
        attach::keep_tags(links, link, &mut port.untagging)?;
        let tagged = link.kind == LinkKind::Veth && links.vlan_of(link.index).is_some();
        let (fd, mut attached) = attach::attach(self.program.as_fd(), link, self.mode, netlink)?;
        if (self.asked, self.mode) == (XdpMode::Auto, XdpMode::Generic) {
            attached.why = "all interfaces run in generic mode".to_owned();
        }
        if tagged {
            attached.why += "; its VLANs need txvlan off at its far end (ethtool -K)";
        }
        port.program = attach::program_of(fd.as_fd()).ok().flatten();
        port.link = Some((link.index, fd));
        port.taken = false;
        Ok(attached)
    }

    /// Follows changes of the host's interfaces. What came of it, where anything did.
    pub(crate) fn follow(&mut self, links: &Links, netlink: &mut Netlink) -> Option<Standing> {
        let mut changes = Standing::default();
        self.let_go(links, &mut changes);
        self.come_back(links, netlink, &mut changes);
        self.told(changes)
    }

    /// Sees whether somebody took the program off an interface, or put another in its place, of which
    /// there is no news; and attaches it again as soon as that can be.
    pub(crate) fn look_after(&mut self, links: &Links, netlink: &mut Netlink) -> Option<Standing> {
        let mut changes = Standing::default();
        for at in 0..self.ports.len() {
            let port = &mut self.ports[at];
            if let (Some((_, fd)), Some(program)) = (&port.link, port.program)
                && attach::program_of(fd.as_fd()).is_ok_and(|now| now != Some(program))
            {
                (port.link, port.taken) = (None, true);
                let why = "somebody took the program off, or put another in its place";
                changes.lost.push((port.name.clone(), why.to_owned()));
            }
            // told once: while another program is there, trying is in vain
            if port.taken
                && port.link.is_none()
                && let Ok(mut attached) = self.attach_to(at, links, netlink)
            {
                self.ports[at].describe(&mut attached);
                changes.back.push(attached);
            }
        }
        self.told(changes)
    }

    fn told(&self, changes: Standing) -> Option<Standing> {
        let any = !changes.lost.is_empty() || !changes.back.is_empty();
        any.then(|| Standing { attached: self.attached(), ..changes })
    }

    /// Lets go of interfaces that are gone, or where VLANs cannot be told apart any more.
    fn let_go(&mut self, links: &Links, changes: &mut Standing) {
        for port in &mut self.ports {
            let Some((index, _)) = port.link else { continue };
            let Some(link) = links.get(index) else {
                port.detach();
                port.refused = None;
                changes.lost.push((port.name.clone(), "the interface is gone".to_owned()));
                continue;
            };
            let kept = attach::suitable(links, &port.name, self.asked)
                .and_then(|_| attach::keep_tags(links, link, &mut port.untagging));
            // Whatever else makes it unsuitable only keeps frames away from it.
            let uncertain = |error: &AttachError| {
                use AttachError::{TagsStripped, TagsUncertain};
                matches!(error, TagsStripped { .. } | TagsUncertain { .. })
            };
            if let Some(error) = kept.err().filter(uncertain) {
                port.detach();
                changes.lost.push((port.name.clone(), error.to_string()));
            }
        }
    }

    /// Attaches to interfaces that were gone and are back: once to each.
    fn come_back(&mut self, links: &Links, netlink: &mut Netlink, changes: &mut Standing) {
        for at in 0..self.ports.len() {
            let port = &self.ports[at];
            let Some(link) = links.named(&port.name) else { continue };
            if port.link.is_some() || port.refused == Some(link.index) {
                continue;
            }
            match self.attach_to(at, links, netlink) {
                Ok(mut attached) => {
                    self.ports[at].describe(&mut attached);
                    changes.back.push(attached);
                }
                Err(error) => {
                    self.ports[at].detach();
                    changes.lost.push((self.ports[at].name.clone(), error.to_string()));
                }
            }
        }
    }

    /// Takes the program off an interface by force, as root may.
    #[cfg(test)]
    pub(crate) fn force_off(&self, at: usize) {
        let (_, link) = self.ports[at].link.as_ref().expect("it is attached");
        super::testing::force_off(link.as_fd());
    }
}
