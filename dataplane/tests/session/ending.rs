//! The end of the relay: what it was given before still reaches the clients, who are told.

use crate::kit::*;
use crate::rig::{Host, Rig, udp};
use dial::{Dialer, Link, Received, Trust};
use std::net::SocketAddr;
use std::sync::Arc;

/// Three times these are more than a session thread sends in one round; and no more than a client's
/// socket holds.
const ANSWERS: u8 = 120;

/// A message of 20 bytes more than its header, so that the whole is known by its number.
fn answer(number: u8) -> Vec<u8> {
    let mut bytes = stun(4);
    bytes[20] = number;
    bytes
}

fn dial(server: SocketAddr, transport: dial::Transport) -> Link {
    let trust = Some(Arc::new(Trust::new("127.0.0.1", None, true).unwrap()));
    Dialer { server, transport, trust, local: None }.dial().unwrap()
}

/// Gives answers for each client, and ends the relay before a thread was woken for them.
fn answer_and_end(mut rig: Rig, clients: &[(usize, dataplane::Client)]) {
    for number in 0..ANSWERS {
        for (worker, client) in clients {
            rig.plane.to_client(*worker, *client, &answer(number));
        }
    }
    rig.plane.stop();
}

#[test]
fn answers_that_were_queued_at_the_end_arrive_over_every_transport() {
    let folder = Folder::new("ending");
    let mut rig = start_secure(&folder, |_| ());
    // given a client of each transport
    let (mut host, listener) = (Host::new("127.0.0.1"), rig.listener(0));
    let mut clients = vec![(0, udp(listener, host.address))];
    let mut links = Vec::new();
    for (server, transport) in [
        (rig.tcp(), dial::Transport::Tcp),
        (rig.tls(), dial::Transport::Tls),
        (rig.dtls(), dial::Transport::Dtls),
    ] {
        let mut link = dial(server, transport);
        link.send(&stun(4)).unwrap();
        clients.push((SESSION, rig.heard().0));
        links.push((transport, link));
    }
    // when
    answer_and_end(rig, &clients);
    // then
    let got = host.receive(ANSWERS.into(), PATIENCE);
    assert!(got.into_iter().map(|got| got.bytes).eq((0..ANSWERS).map(answer)), "over UDP");
    for (transport, mut link) in links {
        for number in 0..ANSWERS {
            let got = link.receive(PATIENCE).unwrap();
            assert_eq!(got, Received::Message(answer(number)), "{transport:?} {number}");
        }
        // a DTLS client knows only because it is told
        assert_eq!(link.receive(PATIENCE).unwrap(), Received::Closed, "{transport:?}");
    }
}
