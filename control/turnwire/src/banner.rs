//! What is printed once when the relay starts without any credentials configured: a made-up user,
//! and all that is needed to try it.

use std::fmt::Write as _;
use std::net::SocketAddr;

use dataplane::Transport;

use crate::ice;
use crate::listening::Listening;
use crate::plan::Plan;
use crate::random;
use crate::tier::Tier;

/// A user that was made up for one run.
#[derive(Debug, Clone)]
pub struct Guest {
    /// USERNAME.
    pub name: String,
    /// The password: 120 bits that nobody can guess.
    pub password: String,
}

impl Guest {
    /// Someone new.
    pub fn new(random: &mut dyn turn::Random) -> Guest {
        let name = format!("guest-{}", random::text(random, 4));
        Guest { name, password: random::text(random, 24) }
    }
}

/// The text that is printed to standard output.
pub fn text(plan: &Plan, listen: &Listening, tier: &Tier, guest: &Guest) -> String {
    let mut text = String::new();
    let ports = &plan.config.relay_ports.value;
    let mut line = |name: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {name:<10} {value}");
    };
    for transport in Transport::ALL {
        let addresses: Vec<SocketAddr> = listen.by(transport).collect();
        if !addresses.is_empty() {
            line(transport.name(), join(&addresses));
        }
    }
    line("relaying", format!("{}, ports {}-{}", join(&plan.relay_ips), ports.start(), ports.end()));
    line("tier", format!("{}: {}", tier.name, tier.why));
    for note in &plan.notes {
        line("note", note.clone());
    }
    line("user", format!("{}, made up for this run, as none is configured", guest.name));
    let block = ice::servers_block(&listen.urls(plan), &guest.name, &guest.password);
    let version = env!("CARGO_PKG_VERSION");
    format!("Turnwire {version} is serving.\n{text}\nFor an RTCPeerConnection:\n\n{block}\n")
}

fn join<T: ToString>(values: &[T]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<String>>().join(", ")
}
