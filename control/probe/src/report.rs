//! What was found out, for people and for machines.

use std::fmt::Write as _;
use std::net::SocketAddr;

use dial::Transport;
use serde::Serialize;

use crate::{Filtering, Mapping, Nat, Relay};

/// A server by one transport.
#[derive(Clone, Debug, Serialize)]
pub struct Reach {
    /// `udp`, `tcp`, `tls` or `dtls`.
    pub transport: &'static str,
    /// Where it was asked.
    pub server: SocketAddr,
    /// This end, before any NAT.
    pub local: Option<SocketAddr>,
    /// This end, as the server sees it.
    pub mapped: Option<SocketAddr>,
    /// Milliseconds that the connection and its handshakes took.
    pub handshake_ms: Option<f64>,
    /// Milliseconds from the Binding request to its response.
    pub rtt_ms: Option<f64>,
    /// What TLS or DTLS agreed on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security: Option<String>,
    /// Why it was not reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Reach {
    pub(crate) fn new(transport: &'static str, server: SocketAddr) -> Reach {
        Reach {
            transport,
            server,
            local: None,
            mapped: None,
            handshake_ms: None,
            rtt_ms: None,
            security: None,
            error: None,
        }
    }
}

/// The whole result. Its JSON has the fields' names.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// As it was asked for.
    pub server: String,
    /// By each transport.
    pub reach: Vec<Reach>,
    /// The NATs on the way; only where UDP works.
    pub nat: Option<Nat>,
    /// By each transport that works, if there is a user.
    pub relay: Vec<Relay>,
}

impl Report {
    pub(crate) fn new(server: String) -> Report {
        Report { server, reach: Vec::new(), nat: None, relay: Vec::new() }
    }

    /// Whether the server answers by a transport.
    pub fn is_reached(&self, transport: Transport) -> bool {
        let mut reach = self.reach.iter();
        reach.any(|reach| reach.transport == transport.name() && reach.error.is_none())
    }

    /// Whether everything that was asked for works: every transport, every allocation, and nothing
    /// of an echo was lost altogether.
    pub fn is_good(&self) -> bool {
        let relayed =
            |relay: &Relay| relay.error.is_none() && (relay.sent == 0 || relay.received > 0);
        self.reach.iter().all(|reach| reach.error.is_none()) && self.relay.iter().all(relayed)
    }

    /// A page for people.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n\n", self.server);
        // Writing to a String cannot fail.
        for reach in &self.reach {
            let _ = write!(text, "  {:<5}", reach.transport);
            let _ = match (&reach.error, reach.mapped, reach.rtt_ms) {
                (Some(error), ..) => writeln!(text, "not reached at {}: {error}", reach.server),
                (None, Some(mapped), Some(rtt)) => {
                    let mut more = String::new();
                    if let Some(handshake) = reach.handshake_ms {
                        let _ = write!(more, ", connected in {handshake:.1} ms");
                    }
                    if let Some(security) = &reach.security {
                        let _ = write!(more, ", {security}");
                    }
                    writeln!(text, "answers in {rtt:.1} ms; you are {mapped}{more}")
                }
                _ => writeln!(text, "nothing is known"),
            };
        }
        if let Some(nat) = &self.nat {
            write_nat(&mut text, nat);
        }
        for relay in &self.relay {
            write_relay(&mut text, relay);
        }
        text
    }
}

fn write_nat(text: &mut String, nat: &Nat) {
    let mapping = match nat.mapping {
        Mapping::None => "no NAT: the server sees this host's own address",
        Mapping::EndpointIndependent => "endpoint independent: direct calls have a good chance",
        Mapping::AddressDependent => "address dependent: direct calls often need a relay",
        Mapping::AddressAndPortDependent => {
            "address and port dependent (symmetric): most calls need a relay"
        }
        Mapping::Dependent => {
            "dependent on the address, or on address and port: calls need a relay"
        }
        Mapping::Unknown => "unknown",
    };
    let filtering = match nat.filtering {
        Filtering::EndpointIndependent => "endpoint independent (full cone)",
        Filtering::AddressDependent => "address dependent (restricted)",
        Filtering::AddressAndPortDependent => "address and port dependent (port restricted)",
        Filtering::Unknown => "unknown",
    };
    let hairpinning = match nat.hairpinning {
        Some(true) => "yes",
        Some(false) => "no",
        None => "not asked",
    };
    let _ = writeln!(text, "\n  mapping      {mapping}\n  filtering    {filtering}");
    let _ = writeln!(text, "  hairpinning  {hairpinning}");
    if let Some(lifetime) = nat.lifetime {
        let least = lifetime.at_least_secs;
        let _ = match lifetime.less_than_secs {
            Some(less) => writeln!(text, "  lifetime     {least} s to {less} s without traffic"),
            None => writeln!(text, "  lifetime     more than {least} s without traffic"),
        };
    }
    for note in &nat.notes {
        let _ = writeln!(text, "  note         {note}");
    }
}

fn write_relay(text: &mut String, relay: &Relay) {
    let _ = write!(text, "\n  relay by {}", relay.transport);
    if let (Some(relayed), Some(millis)) = (relay.relayed, relay.allocate_ms) {
        let _ = write!(text, "  {relayed}, allocated in {millis:.1} ms");
    }
    let _ = writeln!(text);
    if let Some(error) = &relay.error {
        let _ = writeln!(text, "    failed: {error}");
    }
    if relay.sent > 0 {
        let lost = f64::from(relay.sent - relay.received) * 100.0 / f64::from(relay.sent);
        let (sent, received) = (relay.sent, relay.received);
        let _ = writeln!(text, "    {received} of {sent} came back ({lost:.1} % lost)");
    }
    if let Some([least, median, most]) = relay.rtt_ms {
        let _ = writeln!(
            text,
            "    through the relay and back: {least:.1} ms at least, {median:.1} median, {most:.1} at \
             most"
        );
    }
}
