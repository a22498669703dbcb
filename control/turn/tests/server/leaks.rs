//! D6: after a hundred thousand allocations over odd paths, everything is back at the start.

use turn::attribute::Family;
use turn::message::{Builder, Method};
use turn::{ChannelNumber, Config, Seeded};

use crate::lab::{Lab, address, client, config};
use crate::user::{Mode, User};

#[test]
fn a_hundred_thousand_allocations_leave_nothing_behind() {
    let seed = 99;
    println!("seed {seed}");
    let mut random = Seeded::new(seed);
    let mut lab = Lab::with(Config { ports: 50_000..=50_999, ..config() });
    let ports_free = lab.server.ports_free();
    let mut users: Vec<User> = (0..64)
        .map(|n| User::new(["alice", "bob"][n % 2], client(n as u16), Mode::Legacy))
        .collect();
    let mut cycles = 0u32;
    let mut tokens: Vec<[u8; 8]> = Vec::new();
    while cycles < 100_000 {
        if cycles.is_multiple_of(2_000) {
            lab.pass_secs(1);
            users.iter_mut().for_each(|user| user.learn(&mut lab));
        }
        let at = random.below(users.len());
        let user = users[at].clone();
        lab.wire.exhausted = random.below(50) == 0;
        let token = (random.below(20) == 0).then(|| tokens.pop()).flatten();
        let kind = random.below(8);
        let request = user.sign(lab.transaction(), Method::ALLOCATE, |b: &mut Builder<'_>| {
            b.requested_transport(17);
            match (token, kind) {
                (Some(token), _) => _ = b.reservation_token(&token),
                (None, 0) => _ = b.even_port(false),
                (None, 1) => _ = b.even_port(true),
                (None, 2) => _ = b.additional_address_family(Family::V6),
                (None, 3) => _ = b.requested_address_family(Family::V6),
                _ => {}
            }
        });
        let answer = lab.answer(user.client, &request).unwrap();
        let message = turn::message::Message::parse(&answer).unwrap();
        tokens.extend(message.reservation_token().unwrap());
        tokens.truncate(16);
        lab.wire.exhausted = false;
        cycles += 1;
        // One in ten has a channel: to the world, or to whoever has the lowest port.
        if random.below(10) == 0 {
            let own = *lab.wire.ports.keys().next().unwrap_or(&address("9.9.9.9:1"));
            let peer = if random.below(2) == 0 { own } else { address("9.9.9.9:1") };
            let bind = user.sign(lab.transaction(), Method::CHANNEL_BIND, |b| {
                b.channel_number(ChannelNumber::MIN).xor_peer_address(peer);
            });
            lab.answer(user.client, &bind);
        }
        // The end: by a Refresh, or (now and then) by time.
        if random.below(20) != 0 {
            let end = user.sign(lab.transaction(), Method::REFRESH, |b| _ = b.lifetime_secs(0));
            lab.answer(user.client, &end);
        } else if random.below(50) == 0 {
            lab.pass_secs(600);
        }
    }
    lab.pass_secs(3600);
    let stats = lab.server.stats();
    println!("{} ports opened, stats {:?}", lab.wire.opened, stats.successes);
    assert!(lab.server.holds_nothing());
    assert_eq!(lab.server.ports_free(), ports_free);
    assert_eq!(lab.server.deadline(), None);
    assert!(lab.wire.ports.is_empty() && lab.wire.routes.is_empty());
    assert_eq!(lab.wire.opened, lab.wire.closed);
    assert_eq!((stats.allocations, stats.relayed_addresses), (0, 0));
    assert_eq!((stats.channels, stats.permissions, stats.reservations), (0, 0, 0));
}
