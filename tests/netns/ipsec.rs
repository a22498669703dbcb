//! What the host's IPsec policies are about is the stack's: a program that sends past it would send in
//! the clear what is to be encrypted, and take in what is to be refused.

use anyhow::{Context, Result, ensure};
use turnwire_tests::call::Call;
use turnwire_tests::lab::{Family, Host, Lab, Topology, in_lab};
use turnwire_tests::relay::{Direction, Launch, RelayUnderTest, Tier};
use turnwire_tests::wait::{self, SOON};

use crate::af_xdp::{PUNTING, queues_are_open};

/// Datagrams that must not come in the clear.
const TRIES: usize = 2;

/// A policy for one way of a call, which nobody negotiates keys for: the stack lets nothing pass.
#[derive(Clone, Copy, Debug)]
enum Demand {
    /// Encryption to the peer, or to the client.
    Out(Direction),
    /// Encryption from the client, or from the peer.
    In(Direction),
}

impl Demand {
    const ALL: [Demand; 4] = [
        Demand::Out(Direction::ToPeer),
        Demand::Out(Direction::ToClient),
        Demand::In(Direction::ToPeer),
        Demand::In(Direction::ToClient),
    ];

    /// The way that it closes.
    fn closes(self) -> Direction {
        let (Demand::Out(way) | Demand::In(way)) = self;
        way
    }

    fn set(self, lab: &Lab, family: Family, what: &str) -> Result<()> {
        let (client, peer) = (family.client().to_string(), family.peer().to_string());
        let (listener, relayed) =
            (family.listener().ip().to_string(), family.relayed().to_string());
        let (from, to, dir) = match self {
            Demand::Out(Direction::ToPeer) => (relayed, peer, "out"),
            Demand::Out(Direction::ToClient) => (listener, client, "out"),
            Demand::In(Direction::ToPeer) => (client, listener, "in"),
            Demand::In(Direction::ToClient) => (peer, relayed, "in"),
        };
        let selector = ["ip", "xfrm", "policy", what, "src", &from, "dst", &to, "dir", dir];
        let template = ["tmpl", "src", &from, "dst", &to, "proto", "esp", "mode", "transport"];
        let template = if what == "add" { &template[..] } else { &[] };
        lab.run(Host::Relay, &[&selector, template].concat()).map(|_| ())
    }
}

#[test]
fn what_a_policy_demands_to_be_encrypted_does_not_pass_the_program_in_the_clear() {
    in_lab(Topology::TwoArmed, |lab| {
        if !has_policies(lab) {
            return Ok(());
        }
        let relay = RelayUnderTest::start(lab, Tier::Native)?;
        let [mut v4, mut v6] = [
            Call::set_up(lab, Family::V4, Family::V4)?,
            Call::set_up(lab, Family::V6, Family::V6)?,
        ];
        for (number, demand) in Demand::ALL.into_iter().enumerate() {
            let (family, call, other) = match number % 2 {
                0 => (Family::V4, &mut v4, &mut v6),
                _ => (Family::V6, &mut v6, &mut v4),
            };
            closes(lab, &relay, call, demand, family)?;
            // what no policy is about is forwarded as before
            other.warm_up(&relay)?;
            other.loses_nothing(&relay, 32)?;
            demand.set(lab, family, "delete")?;
            call.warm_up(&relay).with_context(|| format!("{demand:?} is gone"))?;
        }
        let log = relay.log();
        ensure!(log.contains("IPsec policies are about addresses"), "not told:\n{log}");
        Ok(())
    });
}

#[test]
fn nor_does_it_pass_by_af_xdp() {
    for (launch, demand) in [
        (&PUNTING, Demand::Out(Direction::ToClient)),
        (&Launch::of(Tier::AfXdp), Demand::In(Direction::ToPeer)),
    ] {
        in_lab(Topology::TwoArmed, |lab| {
            if !has_policies(lab) {
                return Ok(());
            }
            let relay = RelayUnderTest::launch(lab, launch)?;
            queues_are_open(lab, &relay)?;
            let mut call = Call::set_up(lab, Family::V4, Family::V4)?;
            closes(lab, &relay, &mut call, demand, Family::V4)?;
            // what no policy is about goes by the other tiers
            let mut other = Call::set_up(lab, Family::V6, Family::V6)?;
            other.exchanges_indications(lab, 3)?;
            demand.set(lab, Family::V4, "delete")?;
            queues_are_open(lab, &relay)?;
            call.warm_up(&relay)
        });
    }
}

fn has_policies(lab: &Lab) -> bool {
    let asked = lab.run(Host::Relay, &["ip", "xfrm", "policy", "list"]);
    if asked.is_err() {
        eprintln!("skipped: this kernel has no IPsec policies (XFRM_USER)");
    }
    asked.is_ok()
}

/// With the policy, what went that way before does not any more.
fn closes(
    lab: &Lab,
    relay: &RelayUnderTest,
    call: &mut Call,
    demand: Demand,
    family: Family,
) -> Result<()> {
    call.warm_up(relay)?;
    call.loses_nothing(relay, 32)?;
    demand.set(lab, family, "add")?;
    wait::until(&format!("{demand:?} is heeded"), SOON, || {
        let metrics = relay.metrics()?;
        let heeded = metrics.sum("turnwire_xdp_ipsec_policies", &[]) == 1;
        Ok((heeded && metrics.sum("turnwire_af_xdp_queues", &[]) == 0).then_some(()))
    })?;
    for number in 0..TRIES {
        let through = call.gets_through(demand.closes())?;
        ensure!(!through, "{demand:?}: try {number} went in the clear");
    }
    Ok(())
}
