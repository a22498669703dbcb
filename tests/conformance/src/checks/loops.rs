//! Loops (D3): the server against itself. One packet for each trigger, at most.

use std::net::SocketAddr;
use std::time::Duration;

use super::success;
use crate::check::{Check, Stop, Verdict, fail, house, want};
use crate::client::{Client, Data};
use crate::codec::{attribute, kind};
use crate::trial::Trial;

/// How long the first copy may take.
const FIRST: Duration = Duration::from_secs(2);
/// How long copies are counted.
const COUNT: Duration = Duration::from_millis(400);

pub(super) const CHECKS: &[Check] = &[
    house("loop.pair", "Two channels that point at each other carry a datagram once", |t| {
        let (mut one, mut two) = (t.allocated()?, t.allocated()?);
        let (a, b) = (one.relay(), two.relay());
        success(&one.bind(0x4001, b)?)?;
        success(&two.bind(0x4002, a)?)?;
        one.send_channel(0x4001, b"round and round")?;
        let expected = Data::Channel(0x4002, b"round and round".to_vec());
        want(copies(&mut two, &expected, FIRST)? == 1, "one copy", || "another number".into())?;
        let back = copies(&mut one, &expected, COUNT)?;
        want(back == 0, "no copy at the sender", || format!("{back}"))
    }),
    house(
        "loop.self",
        "A channel to one's own relayed address carries a datagram once, or not",
        |t| {
            let mut client = t.allocated()?;
            let own = client.relay();
            let answer = client.bind(0x4001, own)?;
            if !answer.is_success() {
                return super::code(&answer, &[403]);
            }
            client.send_channel(0x4001, b"to myself")?;
            let expected = Data::Channel(0x4001, b"to myself".to_vec());
            let count = copies(&mut client, &expected, FIRST)?;
            want(count <= 1, "at most one copy", || format!("{count}"))
        },
    ),
    house("loop.binding", "The server does not answer its own relayed addresses", |t| {
        to_listener(t, kind::BINDING)
    }),
    house("loop.allocate", "... nor an Allocate from there", |t| to_listener(t, kind::ALLOCATE)),
    house("loop.error", "An error response that is relayed to it is not answered", |t| {
        to_listener(t, kind::error(kind::ALLOCATE))
    }),
    house("loop.three", "Three allocations in a ring carry a datagram once", |t| {
        let mut clients = [t.allocated()?, t.allocated()?, t.allocated()?];
        let relays: Vec<SocketAddr> = clients.iter().map(Client::relay).collect();
        for (at, client) in clients.iter_mut().enumerate() {
            success(&client.bind(0x4001, relays[(at + 1) % 3])?)?;
            let before = relays[(at + 2) % 3];
            success(&super::permission::permit(client, &[before])?)?;
        }
        clients[0].send_channel(0x4001, b"ring")?;
        let expected = Data::Indication(relays[0], b"ring".to_vec());
        let count = copies(&mut clients[1], &expected, FIRST)?;
        want(count == 1, "one copy at the second", || format!("{count}"))?;
        for at in [0, 2] {
            let came = clients[at].data(COUNT)?;
            want(came.is_none(), "none at the others", || format!("{came:?}"))?;
        }
        Ok(())
    }),
];

/// How often this data comes, the first time within `limit`; anything else is a failure.
fn copies(client: &mut Client<'_>, expected: &Data, mut limit: Duration) -> Result<usize, Stop> {
    let mut count = 0;
    while let Some(came) = client.data(limit)? {
        if came != *expected {
            return Err(fail(format!("{expected:?}"), format!("{came:?}")));
        }
        count += 1;
        limit = COUNT;
        if count > 100 {
            break;
        }
    }
    Ok(count)
}

/// A message that a relayed address would bring to the server's own listener: nothing comes back.
fn to_listener(t: &Trial<'_>, kind: u16) -> Verdict {
    let server = t.options.dialer.server;
    let mut client = t.client()?;
    let family = if server.is_ipv6() { 2 } else { 1 };
    let answer = client.ask(kind::ALLOCATE, |w| {
        super::auth::transport(w).with(attribute::REQUESTED_ADDRESS_FAMILY, &[family, 0, 0, 0])
    })?;
    if answer.code() == Some(440) {
        return Ok(());
    }
    client.took(&answer)?;
    // Whether this is allowed is another check.
    super::permission::permit(&mut client, &[server])?;
    let message = client.write(kind).bytes();
    client.send_data(server, &message)?;
    client.expect_silence(&[], "a message to the server from its own relayed address")
}
