//! SOFTWARE: told to who has authenticated, where the operator wants it.

use turn::attribute::PasswordAlgorithm;
use turn::integrity::Key;
use turn::message::{Message, Method};

use crate::by_hand::{Challenge, Line, UDP, code, request};
use crate::relay::{LOOPBACK, Relay, USER, program};

/// What a relay with these options tells of itself: to a stranger's Binding, to one without
/// credentials, and to a user.
fn told(options: &[&str]) -> [Option<String>; 3] {
    let mut command = program();
    command.args(LOOPBACK).args(["--listen=127.0.0.1:0", "--user=alice:wonderland"]).args(options);
    let relay = Relay::start_as(command);
    let mut line = Line::datagrams(relay.listen);
    let binding = line.exchange(&request(Method::BINDING, |_| {}));
    let challenge = Challenge::of(&mut line);
    let key = Key::long_term(PasswordAlgorithm::Md5, USER.0, &challenge.realm, USER.1);
    let allocated = challenge.ask(&mut line, Method::ALLOCATE, (USER.0, &key), |b| {
        b.requested_transport(UDP);
    });
    assert_eq!((code(&binding), code(&allocated)), (0, 0));
    [&binding, &challenge.answer, &allocated].map(|answer| {
        let message = Message::parse(answer).expect("a message");
        message.software().expect("well formed").map(str::to_owned)
    })
}

#[test]
fn software_is_told_to_users_alone_and_only_if_it_is_asked_for() {
    let name = "Turnwire of example.org";
    assert_eq!(told(&["--software", name]), [None, None, Some(name.to_owned())]);
    assert_eq!(told(&[]), [None, None, None]);
}
