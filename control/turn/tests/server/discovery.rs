//! NAT behaviour discovery (RFC 5780).

use turn::attribute::{AttributeType, ChangeRequest};
use turn::message::{Builder, Class, Message, Method};
use turn::{Client, Config, NatDiscovery, Reason, RelayAddress, Transport};

use crate::lab::{Lab, address, client, code, config, ip, over};
use crate::wire::Event;

const LISTENERS: [[&str; 2]; 2] =
    [["93.184.216.10:3478", "93.184.216.10:3479"], ["93.184.216.11:3478", "93.184.216.11:3479"]];

fn config_with_discovery() -> Config {
    let relay = |local, advertised| RelayAddress { local: ip(local), advertised: ip(advertised) };
    let nat = NatDiscovery {
        // The second one is behind a 1:1 NAT.
        addresses: [
            RelayAddress::plain(ip("93.184.216.10")),
            relay("93.184.216.11", "93.184.216.111"),
        ],
        ports: [3478, 3479],
    };
    let mut config = Config { nat_discovery: vec![nat], ..config() };
    config.services.extend(LISTENERS.iter().flatten().map(|text| address(text)));
    config
}

fn lab() -> Lab {
    Lab::with(config_with_discovery())
}

fn seen(text: &str) -> std::net::SocketAddr {
    address(&text.replace("216.11:", "216.111:"))
}

/// What is sent, from where and to where.
fn ask(
    lab: &mut Lab,
    who: Client,
    fill: impl FnOnce(&mut Builder<'_>),
) -> Option<(Client, Vec<u8>)> {
    let request = lab.plain(Class::Request, Method::BINDING, fill);
    match lab.input(who, &request).as_slice() {
        [] => None,
        [Event::ToClient(to, bytes)] => Some((*to, bytes.clone())),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_flag_on_every_listener_answers_from_where_the_table_says() {
    let mut lab = lab();
    for (a, p) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let who = Client { local: address(LISTENERS[a][p]), ..client(1) };
        for (change_ip, change_port) in [(false, false), (true, false), (false, true), (true, true)]
        {
            let change = ChangeRequest { ip: change_ip, port: change_port };
            let (to, bytes) = ask(&mut lab, who, |b| _ = b.change_request(change)).unwrap();
            let from = LISTENERS[a ^ usize::from(change_ip)][p ^ usize::from(change_port)];
            assert_eq!(to, Client { local: address(from), ..who }, "{change:?} at {a} {p}");
            let message = Message::parse(&bytes).unwrap();
            assert_eq!(message.xor_mapped_address().unwrap(), Some(who.remote));
            assert_eq!(message.mapped_address().unwrap(), Some(who.remote));
            assert_eq!(message.response_origin().unwrap(), Some(seen(from)));
            assert_eq!(message.other_address().unwrap(), Some(seen(LISTENERS[a ^ 1][p ^ 1])));
        }
        // Without CHANGE-REQUEST it is the same as with no flag.
        let (to, bytes) = ask(&mut lab, who, |_| {}).unwrap();
        assert_eq!(to, who);
        assert!(Message::parse(&bytes).unwrap().other_address().unwrap().is_some());
    }
}

#[test]
fn it_is_off_by_default_and_off_on_other_listeners_and_transports() {
    let asks: [fn(&mut Builder<'_>); 3] = [
        |b| _ = b.change_request(ChangeRequest { ip: false, port: true }),
        |b| _ = b.response_port(5001),
        |b| _ = b.padding(64),
    ];
    let elsewhere = Client { local: address("[2a02:100::10]:3478"), ..client(1) };
    for (config, who) in [
        (config(), client(1)),
        (config_with_discovery(), elsewhere),
        (config_with_discovery(), over(Transport::Tcp, client(1))),
        (config_with_discovery(), over(Transport::Dtls, client(1))),
    ] {
        let mut lab = Lab::with(config);
        for fill in asks {
            let (to, bytes) = ask(&mut lab, who, fill).unwrap();
            assert_eq!((to, code(&bytes)), (who, Some(420)));
            let message = Message::parse(&bytes).unwrap();
            assert_eq!(message.unknown_attributes().unwrap().unwrap().count(), 1);
        }
    }
    // On the other methods the attributes have no meaning, either.
    let mut lab = lab();
    let (mut user, _) = crate::user::alice(&mut lab, 1);
    let answer = user.ask(&mut lab, Method::REFRESH, |b| _ = b.padding(8));
    assert_eq!(answer.code(), 420);
    // Mapping can be told by connections, too: each has one address.
    let (_, bytes) = ask(&mut lab, over(Transport::Tcp, client(1)), |_| {}).unwrap();
    assert!(Message::parse(&bytes).unwrap().other_address().unwrap().is_some());
}

#[test]
fn an_answer_goes_to_the_port_asked_for_and_never_to_ourselves() {
    let mut lab = lab();
    let (to, _) = ask(&mut lab, client(1), |b| _ = b.response_port(5001)).unwrap();
    let mut remote = client(1).remote;
    remote.set_port(5001);
    assert_eq!(to, Client { remote, ..client(1) });
    let (_, bytes) = ask(&mut lab, client(1), |b| _ = b.response_port(0)).unwrap();
    assert_eq!(code(&bytes), Some(400));
    let (_, bytes) = ask(&mut lab, client(1), |b| _ = b.response_port(9).padding(4)).unwrap();
    assert_eq!(code(&bytes), Some(400), "RFC 5780 section 7.5");
    for len in [0, 3, 5] {
        let fill =
            |b: &mut Builder<'_>| _ = b.attribute(AttributeType::CHANGE_REQUEST, &vec![0; len]);
        assert_eq!(code(&ask(&mut lab, client(1), fill).unwrap().1), Some(400));
    }
    // A forged source that is our own address, at a port that is a service's.
    let forged = Client { remote: address("93.184.216.11:6000"), ..client(1) };
    assert!(ask(&mut lab, forged, |b| _ = b.response_port(3478)).is_none());
    assert_eq!(lab.refused(Reason::SourceOwn), 1);
}

#[test]
fn padding_is_answered_with_no_more_padding_than_came() {
    let mut lab = lab();
    for len in [0, 1, 64, 1400, 1500] {
        let request = lab.plain(Class::Request, Method::BINDING, |b| _ = b.padding(len));
        let answer = lab.answer(client(1), &request).unwrap();
        let padding = Message::parse(&answer).unwrap().padding().expect("PADDING").len();
        assert_eq!(padding, len.next_multiple_of(4));
        assert!(answer.len() <= request.len() + 56, "{} to {}", request.len(), answer.len());
    }
    let (_, bytes) = ask(&mut lab, client(1), |b| _ = b.padding(2000)).unwrap();
    assert_eq!(Message::parse(&bytes).unwrap().padding().unwrap().len(), 1500);
}

#[test]
fn without_budget_a_plain_binding_is_answered_plainly_and_the_rest_is_not() {
    let mut lab = lab();
    let change = ChangeRequest { ip: true, port: true };
    let answered = (0..200)
        .filter(|_| ask(&mut lab, client(1), |b| _ = b.change_request(change)).is_some())
        .count();
    assert_eq!(answered, 50);
    assert_eq!(lab.refused(Reason::BudgetSource), 150);
    let (_, bytes) = ask(&mut lab, client(1), |_| {}).unwrap();
    assert_eq!((bytes.len(), Message::parse(&bytes).unwrap().attributes().count()), (32, 1));
    assert!(ask(&mut lab, client(2), |b| _ = b.change_request(change)).is_some(), "others may");
    lab.pass_secs(1);
    assert!(ask(&mut lab, client(1), |b| _ = b.change_request(change)).is_some());
}
