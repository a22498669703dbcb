//! The lab itself: what it promises, so that a fault of the lab is not taken for one of the relay.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use turnwire_tests::client::receive;
use turnwire_tests::lab::{Family, Host, Lab, Topology, in_lab};
use turnwire_tests::wait::{Deadline, SOON};

const QUIET: Duration = Duration::from_millis(200);

#[test]
fn client_and_peer_reach_the_relay_and_never_each_other() {
    for topology in Topology::ALL {
        in_lab(topology, |lab| {
            for family in Family::ALL {
                let at_relay = SocketAddr::new(family.relayed(), 7);
                let at_listener = SocketAddr::new(family.listener().ip(), 7);
                let at_peer = SocketAddr::new(family.peer(), 7);
                let far = SocketAddr::new(family.far_peer(), 7);
                reaches(lab, (Host::Client, family.client()), (Host::Relay, at_listener))?;
                reaches(lab, (Host::Peer, family.peer()), (Host::Relay, at_relay))?;
                reaches(lab, (Host::Relay, family.relayed()), (Host::Peer, at_peer))?;
                reaches(lab, (Host::Relay, family.relayed()), (Host::Peer, far))?;
                for there in [at_peer, far] {
                    let crossed =
                        reaches(lab, (Host::Client, family.client()), (Host::Peer, there));
                    ensure!(crossed.is_err(), "{topology:?}: the client reaches {there}");
                }
            }
            Ok(())
        });
    }
}

fn reaches(
    lab: &Lab,
    from: (Host, std::net::IpAddr),
    (host, address): (Host, SocketAddr),
) -> Result<()> {
    let receiver = lab.udp(host, address)?;
    let sender = lab.udp(from.0, SocketAddr::new(from.1, 0))?;
    sender.send_to(b"hello", address)?;
    let limit = if host == Host::Peer && from.0 == Host::Client { QUIET } else { SOON };
    let received = receive(&receiver, Deadline::after(limit))?;
    received.map(|_| ()).with_context(|| format!("{from:?} does not reach {address}"))
}

#[test]
fn a_lab_leaves_nothing_behind() {
    let (mut hosts, mut left): (Vec<PathBuf>, Vec<Child>) = Default::default();
    for topology in Topology::ALL {
        in_lab(topology, |lab| {
            hosts.extend([Host::Client, Host::Relay, Host::Peer].map(|host| lab.path(host).into()));
            // A process that nobody ends, in a host, does not keep the lab.
            left.push(lab.command(Host::Relay, "sleep").arg("600").spawn()?);
            Ok(())
        });
    }
    for mut process in left {
        assert!(process.try_wait().unwrap().is_some(), "a process outlived its host");
    }
    for host in hosts {
        assert!(!host.exists(), "{} is still there", host.display());
        let name = host.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let lab = name.trim_start_matches("turnwire-").rsplit_once('-').map_or("", |(lab, _)| lab);
        assert!(!Path::new("/run/turnwire-lab").join(lab).exists(), "the state of {lab} is left");
    }
}
