//! What a server is, found out before the checks: whether it answers, whether it knows the user, what
//! it offers.

use crate::check::Stop;
use crate::checks::discovery;
use crate::codec::{attribute, kind};
use crate::options::Options;
use crate::trial::{Facts, Trial};

/// Asks the server.
///
/// # Errors
/// It does not answer, or it refuses the user: there is nothing to check then.
pub fn discover(options: &Options) -> Result<Facts, String> {
    let nothing = Facts::default();
    let trial = Trial::new(options, &nothing, options.seed);
    ask(&trial).map_err(|stop| match stop {
        Stop::Fail { expected, came } => format!("expected {expected}, got: {came}"),
        Stop::Skip(why) => why,
    })
}

fn ask(trial: &Trial<'_>) -> Result<Facts, Stop> {
    let mut facts = Facts::default();
    let mut client = trial.client()?;
    facts.realm = client.realm.clone();
    facts.algorithms = client.algorithms.clone();
    client.allocate()?;
    drop(client);

    let mut client = trial.client()?;
    let answer = client.ask(kind::ALLOCATE, |w| {
        w.with(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0])
            .with(attribute::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0])
    })?;
    facts.dual = client.took(&answer).is_ok() && client.relayed.len() == 2;
    drop(client);

    let mut client = trial.client()?;
    let answer = client.ask(kind::ALLOCATE, |w| {
        w.with(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]).with(attribute::MOBILITY_TICKET, &[])
    })?;
    facts.mobility = client.took(&answer).is_ok() && answer.has(attribute::MOBILITY_TICKET);
    drop(client);

    if trial.is_stream() {
        let mut client = trial.client()?;
        let answer = client
            .ask(kind::ALLOCATE, |w| w.with(attribute::REQUESTED_TRANSPORT, &[6, 0, 0, 0]))?;
        facts.tcp_relay = client.took(&answer).is_ok();
    }

    if trial.options.dialer.transport == dial::Transport::Udp {
        facts.other_address = discovery::other_address(trial)?;
    }
    Ok(facts)
}
