//! A client of the tests: signs, and checks the signature of what comes back. Written apart from
//! `turn::client`, so that one can be wrong without the other.

use std::net::SocketAddr;

use turn::attribute::{Family, PasswordAlgorithm};
use turn::credentials::rest_password;
use turn::integrity::{Hash, Key};
use turn::message::{Builder, Class, Message, Method, TransactionId};
use turn::{ChannelNumber, Client};

use crate::lab::{Lab, REALM, SECRET, code};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// RFC 5389: MD5 and SHA-1.
    Legacy,
    /// RFC 8489: PASSWORD-ALGORITHMS, SHA-256.
    Modern,
}

#[derive(Clone)]
pub(crate) struct User {
    pub(crate) client: Client,
    pub(crate) name: String,
    pub(crate) mode: Mode,
    pub(crate) key: Key,
    pub(crate) nonce: Vec<u8>,
    pub(crate) algorithms: Vec<u8>,
}

/// A response whose signature was checked, if it has one.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) signed: bool,
}

impl Answer {
    pub(crate) fn message(&self) -> Message<'_> {
        Message::parse(&self.bytes).unwrap()
    }

    /// 0 for success.
    pub(crate) fn code(&self) -> u16 {
        code(&self.bytes).unwrap_or(0)
    }

    pub(crate) fn relayed(&self) -> Vec<SocketAddr> {
        assert_eq!(self.code(), 0);
        self.message().xor_relayed_addresses().map(Result::unwrap).collect()
    }

    pub(crate) fn lifetime(&self) -> u32 {
        assert_eq!(self.code(), 0);
        self.message().lifetime_secs().unwrap().expect("LIFETIME")
    }
}

impl User {
    /// "alice" or "bob", at the n-th client address.
    pub(crate) fn new(name: &str, client: Client, mode: Mode) -> Self {
        Self::with_password(name, &format!("{name}'s password"), client, mode)
    }

    /// With TURN REST credentials.
    pub(crate) fn rest(name: &str, client: Client) -> Self {
        Self::with_password(name, &rest_password(SECRET, name), client, Mode::Legacy)
    }

    pub(crate) fn with_password(name: &str, password: &str, client: Client, mode: Mode) -> Self {
        let algorithm = match mode {
            Mode::Legacy => PasswordAlgorithm::Md5,
            Mode::Modern => PasswordAlgorithm::Sha256,
        };
        let key = Key::long_term(algorithm, name, REALM, password);
        let (nonce, algorithms) = (Vec::new(), Vec::new());
        Self { client, name: name.into(), mode, key, nonce, algorithms }
    }

    pub(crate) fn at(&self, client: Client) -> Self {
        Self { client, nonce: Vec::new(), ..self.clone() }
    }

    /// Learns nonce and algorithms from a 401.
    pub(crate) fn learn(&mut self, lab: &mut Lab) {
        let request = lab.plain(Class::Request, Method::ALLOCATE, |b| {
            b.requested_transport(17);
        });
        let answer = lab.answer(self.client, &request).expect("a 401");
        assert_eq!(code(&answer), Some(401));
        self.learn_from(&answer);
    }

    pub(crate) fn learn_from(&mut self, answer: &[u8]) {
        let message = Message::parse(answer).unwrap();
        self.nonce = message.nonce().unwrap().expect("NONCE").to_vec();
        self.algorithms =
            message.password_algorithms().unwrap().expect("algorithms").as_bytes().to_vec();
    }

    /// A signed request.
    pub(crate) fn sign(
        &self,
        id: TransactionId,
        method: Method,
        fill: impl FnOnce(&mut Builder<'_>),
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut builder = Builder::new(&mut bytes, Class::Request, method, id);
        fill(&mut builder);
        builder.username(&self.name).realm(REALM).nonce(&self.nonce);
        let hash = match self.mode {
            Mode::Legacy => Hash::Sha1,
            Mode::Modern => {
                builder.password_algorithm(PasswordAlgorithm::Sha256);
                builder.password_algorithms_echo(&self.algorithms);
                Hash::Sha256
            }
        };
        builder.integrity(&self.key, hash);
        builder.finish().unwrap();
        bytes
    }

    /// Sends a signed request, once more after a 438, and checks the response's signature.
    pub(crate) fn ask(
        &mut self,
        lab: &mut Lab,
        method: Method,
        fill: impl Fn(&mut Builder<'_>),
    ) -> Answer {
        if self.nonce.is_empty() {
            self.learn(lab);
        }
        for _ in 0..2 {
            let request = self.sign(lab.transaction(), method, &fill);
            let answer = self.exchange(lab, &request).expect("an answer");
            if answer.code() != 438 {
                return answer;
            }
            self.learn_from(&answer.bytes);
        }
        panic!("a fresh nonce is stale");
    }

    pub(crate) fn exchange(&mut self, lab: &mut Lab, request: &[u8]) -> Option<Answer> {
        let bytes = lab.answer(self.client, request)?;
        let sent = Message::parse(request).unwrap();
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.transaction(), sent.transaction());
        assert_eq!(message.method(), sent.method());
        let signed = message.has_integrity();
        if signed {
            let hash = self.key.verify(&message).expect("the response is signed with our key");
            let ours = if self.mode == Mode::Legacy { Hash::Sha1 } else { Hash::Sha256 };
            assert_eq!(hash, ours, "and with our algorithm");
        } else {
            assert!(matches!(code(&bytes), Some(400 | 401 | 438)), "unsigned: {message:?}");
        }
        Some(Answer { bytes, signed })
    }

    pub(crate) fn allocate(&mut self, lab: &mut Lab) -> SocketAddr {
        self.allocate_with(lab, |_| {}).relayed()[0]
    }

    pub(crate) fn allocate_with(
        &mut self,
        lab: &mut Lab,
        fill: impl Fn(&mut Builder<'_>),
    ) -> Answer {
        self.ask(lab, Method::ALLOCATE, |b| {
            b.requested_transport(17);
            fill(b);
        })
    }

    pub(crate) fn allocate_dual(&mut self, lab: &mut Lab) -> [SocketAddr; 2] {
        let answer = self.allocate_with(lab, |b| {
            b.additional_address_family(Family::V6);
        });
        answer.relayed().try_into().expect("two addresses")
    }

    pub(crate) fn refresh(&mut self, lab: &mut Lab, lifetime_secs: u32) -> Answer {
        self.ask(lab, Method::REFRESH, |b| {
            b.lifetime_secs(lifetime_secs);
        })
    }

    pub(crate) fn permit(&mut self, lab: &mut Lab, peers: &[SocketAddr]) -> u16 {
        let fill = |b: &mut Builder<'_>| {
            peers.iter().for_each(|&peer| _ = b.xor_peer_address(peer));
        };
        self.ask(lab, Method::CREATE_PERMISSION, fill).code()
    }

    pub(crate) fn bind(&mut self, lab: &mut Lab, channel: u16, peer: SocketAddr) -> u16 {
        let channel = ChannelNumber::new(channel).unwrap();
        self.ask(lab, Method::CHANNEL_BIND, |b| {
            b.channel_number(channel).xor_peer_address(peer);
        })
        .code()
    }
}

/// Alice at the n-th client address, with an allocation.
pub(crate) fn alice(lab: &mut Lab, n: u16) -> (User, SocketAddr) {
    let mut user = User::new("alice", crate::lab::client(n), Mode::Legacy);
    let relay = user.allocate(lab);
    (user, relay)
}
