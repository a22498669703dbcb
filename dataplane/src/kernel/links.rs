//! The host's interfaces, and through which of them the program can send.
//!
//! The program sends by an interface that it is attached to, or by a VLAN of one: it writes the
//! tag itself. Behind a bridge, bond or tunnel only the kernel knows the way, so traffic that
//! leaves by one is left to the sockets.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use wire::Checksums;

use super::netlink::facts::{Link, LinkKind, Mac};

/// How frames leave by an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Egress {
    /// The interface that the program sends by: for a VLAN, its parent.
    pub(crate) ifindex: u32,
    /// VLAN identifier, 0 for untagged frames.
    pub(crate) vlan: u16,
    /// Source address of the frames.
    pub(crate) mac: Mac,
    /// Largest IP packet, in bytes.
    pub(crate) mtu: u32,
}

/// Frames that are for this host: with this MAC address, on this interface and VLAN (0: untagged), and
/// how their checksums are.
pub(crate) type Ingress = BTreeMap<(u32, u16), (Mac, Checksums)>;

/// What difference a change of an interface makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkChange {
    /// None.
    Nothing,
    /// Frames may look different: another MAC address, MTU or name. An interface that is new
    /// leads nowhere yet: its routes are news of their own.
    Frames,
    /// The kernel may route by it again.
    Opened,
    /// The kernel does not route by it any more.
    Closed,
}

/// Every interface of the host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Links {
    all: HashMap<u32, Link>,
    addresses: HashMap<u32, HashSet<IpAddr>>,
    attached: BTreeSet<u32>,
    /// The program runs in the stack, and sees what the kernel has merged.
    generic: bool,
}

impl Links {
    /// Forgets all and starts from what the kernel told.
    pub(crate) fn replace(&mut self, links: Vec<Link>, addresses: Vec<(u32, IpAddr)>) {
        self.all = links.into_iter().map(|link| (link.index, link)).collect();
        self.addresses.clear();
        for (link, address) in addresses {
            self.addresses.entry(link).or_default().insert(address);
        }
    }

    /// Sets that the program runs in the stack, or in the drivers.
    pub(crate) fn set_generic(&mut self, generic: bool) {
        self.generic = generic;
    }

    /// Sets which interfaces the program is attached to. True when they are other ones now.
    pub(crate) fn set_attached(&mut self, attached: BTreeSet<u32>) -> bool {
        let different = attached != self.attached;
        self.attached = attached;
        different
    }

    /// The interface called `name`.
    pub(crate) fn named(&self, name: &str) -> Option<&Link> {
        self.all.values().find(|link| link.name == name)
    }

    /// The names of all, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        self.all
            .values()
            .map(|link| link.name.clone())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    /// A VLAN of interface `index`: a sign that tagged frames come to it.
    pub(crate) fn vlan_of(&self, index: u32) -> Option<&Link> {
        self.all
            .values()
            .find(|link| matches!(link.kind, LinkKind::Vlan { parent, .. } if parent == index))
    }

    /// Whose drivers receive the frames of interface `index`: its own, or for a bond its ports'.
    pub(crate) fn receivers(&self, index: u32) -> Vec<u32> {
        let is_bond = |link: &Link| matches!(&link.kind, LinkKind::Stacked(kind) if kind == "bond");
        let ports = self.all.values().filter(|link| link.controller == Some(index));
        let ports = ports.map(|link| link.index).filter(|_| self.get(index).is_some_and(is_bond));
        std::iter::once(index).chain(ports).collect()
    }

    /// The highest index in use.
    pub(crate) fn index_max(&self) -> u32 {
        self.all.keys().copied().max().unwrap_or(0)
    }

    /// The interface with this index.
    pub(crate) fn get(&self, index: u32) -> Option<&Link> {
        self.all.get(&index)
    }

    /// Takes in an interface that is new or different.
    pub(crate) fn set(&mut self, link: Link) -> LinkChange {
        let Some(before) = self.all.insert(link.index, link.clone()) else {
            return LinkChange::Frames;
        };
        // A port of a bridge is up or down without any route over it: containers come and go so.
        let routes =
            |link: &Link| link.up && link.controller.is_none_or(|index| self.is_vrf(index));
        match (routes(&before), routes(&link)) {
            _ if before == link => LinkChange::Nothing,
            (true, false) => LinkChange::Closed,
            (false, true) => LinkChange::Opened,
            (true, true) if before.controller != link.controller => LinkChange::Opened,
            (true, true) if before.kind != link.kind => LinkChange::Opened,
            _ => LinkChange::Frames,
        }
    }

    fn is_vrf(&self, index: u32) -> bool {
        let kind = self.all.get(&index).map(|link| &link.kind);
        matches!(kind, Some(LinkKind::Stacked(kind)) if kind == "vrf")
    }

    /// Takes an interface out.
    pub(crate) fn remove(&mut self, index: u32) {
        self.all.remove(&index);
        self.addresses.remove(&index);
    }

    /// Adds an address to an interface, or takes it away.
    pub(crate) fn set_address(&mut self, link: u32, address: IpAddr, present: bool) {
        let of_link = self.addresses.entry(link).or_default();
        if present {
            of_link.insert(address);
        } else {
            of_link.remove(&address);
        }
    }

    /// Every address of this host.
    pub(crate) fn all_addresses(&self) -> BTreeSet<IpAddr> {
        self.addresses.values().flatten().copied().collect()
    }

    /// How frames leave by the interface that the kernel would send through; `None` when it is
    /// down, or not one that the program can send by.
    pub(crate) fn egress(&self, index: u32) -> Option<Egress> {
        let link = self.all.get(&index)?;
        let (ifindex, vlan) = match link.kind {
            LinkKind::Vlan { parent, id } => (parent, id),
            _ => (index, 0),
        };
        let parent = self.all.get(&ifindex)?;
        let usable = link.up && parent.up && self.attached.contains(&ifindex);
        usable.then_some(Egress { ifindex, vlan, mac: link.mac?, mtu: link.mtu })
    }

    /// Which frames are for this host: those for an attached interface itself, and those for a VLAN
    /// of one, if it has addresses.
    pub(crate) fn ingress(&self) -> Ingress {
        let has_addresses = |link: &Link| {
            self.addresses.get(&link.index).is_some_and(|addresses| !addresses.is_empty())
        };
        let own = |link: &Link| match link.kind {
            LinkKind::Vlan { parent, id } if self.attached.contains(&parent) => {
                (link.up && has_addresses(link)).then_some((parent, id))
            }
            _ => self.attached.contains(&link.index).then_some((link.index, 0)),
        };
        let ingress = |link: &Link| {
            let (index, vlan) = own(link)?;
            Some(((index, vlan), (link.mac?, self.checksums(index))))
        };
        self.all.values().filter_map(ingress).collect()
    }

    /// A device's frames come off a cable, and its driver shows them one by one. What is not a device
    /// has them from this machine.
    fn checksums(&self, index: u32) -> Checksums {
        let device = self.all.get(&index).is_some_and(|link| link.kind == LinkKind::Device);
        if device && !self.generic { Checksums::Made } else { Checksums::MayBeLeft }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 1];
    const VLAN_MAC: Mac = [2, 0, 0, 0, 0, 5];

    fn device(index: u32) -> Link {
        Link {
            index,
            name: format!("eth{index}"),
            mac: Some(MAC),
            mtu: 1500,
            up: true,
            loopback: false,
            kind: LinkKind::Device,
            controller: None,
            program: None,
        }
    }

    fn vlan(index: u32, parent: u32, id: u16) -> Link {
        let kind = LinkKind::Vlan { parent, id };
        Link { kind, mac: Some(VLAN_MAC), mtu: 1496, ..device(index) }
    }

    fn links(all: Vec<Link>) -> Links {
        let mut links = Links::default();
        links.replace(all, vec![(5, IpAddr::from([192, 0, 2, 5]))]);
        links.set_attached(BTreeSet::from([2]));
        links
    }

    #[test]
    fn frames_leave_by_an_attached_interface_untagged() {
        let links = links(vec![device(2), device(3)]);
        let egress = Egress { ifindex: 2, vlan: 0, mac: MAC, mtu: 1500 };
        assert_eq!(links.egress(2), Some(egress));
        assert_eq!(links.egress(3), None, "nobody attached to it");
        assert_eq!(links.egress(9), None, "there is none");
    }

    #[test]
    fn frames_leave_by_a_vlan_of_an_attached_interface_tagged() {
        let links = links(vec![device(2), device(3), vlan(5, 2, 100), vlan(6, 3, 100)]);
        let egress = Egress { ifindex: 2, vlan: 100, mac: VLAN_MAC, mtu: 1496 };
        assert_eq!(links.egress(5), Some(egress));
        assert_eq!(links.egress(6), None, "its parent is not attached");
    }

    #[test]
    fn nothing_leaves_by_an_interface_that_is_down() {
        let down = Link { up: false, ..device(2) };
        let links = links(vec![down, vlan(5, 2, 100)]);
        assert_eq!((links.egress(2), links.egress(5)), (None, None));
    }

    #[test]
    fn only_a_vlan_with_addresses_is_ours() {
        let links = links(vec![device(2), vlan(5, 2, 100), vlan(6, 2, 200)]);
        let made = Checksums::Made;
        let ours = Ingress::from([((2, 0), (MAC, made)), ((2, 100), (VLAN_MAC, made))]);
        assert_eq!(links.ingress(), ours);
    }

    #[test]
    fn only_by_a_driver_of_a_device_all_checksums_are_made() {
        let of = |kind, generic| {
            let mut links = links(vec![Link { kind, ..device(2) }, vlan(5, 2, 100)]);
            links.set_generic(generic);
            links.ingress().into_values().map(|(_, checksums)| checksums).collect::<Vec<_>>()
        };
        assert_eq!(of(LinkKind::Device, false), [Checksums::Made; 2]);
        assert_eq!(of(LinkKind::Device, true), [Checksums::MayBeLeft; 2]);
        assert_eq!(of(LinkKind::Veth, false), [Checksums::MayBeLeft; 2]);
        assert_eq!(of(LinkKind::Stacked("tun".into()), false), [Checksums::MayBeLeft; 2]);
    }

    #[test]
    fn a_bond_receives_by_its_ports() {
        let port = |index| Link { controller: Some(9), ..device(index) };
        let stacked = |kind: &str| Link { kind: LinkKind::Stacked(kind.into()), ..device(9) };
        let mut bond = links(vec![port(2), device(3), stacked("bond")]).receivers(9);
        bond.sort_unstable();
        assert_eq!(bond, [2, 9]);
        assert_eq!(links(vec![port(2), stacked("vrf")]).receivers(9), [9]);
        assert_eq!(links(vec![device(2)]).receivers(2), [2]);
    }

    #[test]
    fn a_change_is_told_by_the_difference_it_makes() {
        let mut links = links(vec![device(2)]);
        assert_eq!(links.set(device(2)), LinkChange::Nothing);
        assert_eq!(links.set(Link { mtu: 9000, ..device(2) }), LinkChange::Frames);
        assert_eq!(links.set(Link { mac: Some(VLAN_MAC), ..device(2) }), LinkChange::Frames);
        assert_eq!(links.set(Link { up: false, ..device(2) }), LinkChange::Closed);
        assert_eq!(links.set(device(2)), LinkChange::Opened);
        assert_eq!(links.set(device(3)), LinkChange::Frames, "no route leads over it yet");
    }

    #[test]
    fn a_port_of_a_bridge_has_no_routes_to_lose() {
        let port = |up| Link { up, controller: Some(9), ..device(2) };
        let bridge = Link { kind: LinkKind::Stacked("bridge".into()), ..device(9) };
        let mut links = links(vec![device(2), bridge]);
        assert_eq!(links.set(port(true)), LinkChange::Closed, "it became one");
        assert_eq!(links.set(port(false)), LinkChange::Frames);
        assert_eq!(links.set(port(true)), LinkChange::Frames);
        assert_eq!(links.set(device(2)), LinkChange::Opened, "it is its own again");
    }
}
