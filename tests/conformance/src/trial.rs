//! What a running check holds: options, facts about the server, a record of what was sent and came.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::call::Peer;
use crate::check::{Stop, fail, skip};
use crate::client::Client;
use crate::codec::{Id, attribute, hex, kind};
use crate::options::{Login, Options};

/// Lines of the record that a failure shows.
const RECORD_MAX: usize = 12;

/// What was found out about the server before the checks.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The realm.
    pub realm: String,
    /// The value of PASSWORD-ALGORITHMS, if it sends any.
    pub algorithms: Option<Vec<u8>>,
    /// It relays IPv4 and IPv6 from one allocation.
    pub dual: bool,
    /// It relays TCP (RFC 6062).
    pub tcp_relay: bool,
    /// It gives mobility tickets (RFC 8016).
    pub mobility: bool,
    /// OTHER-ADDRESS of RFC 5780.
    pub other_address: Option<SocketAddr>,
}

/// Something wrong with a message that no check had asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lint {
    /// Lengths, cookie, attributes past the end.
    Format,
    /// Padding that is not zero.
    Padding,
    /// FINGERPRINT.
    Fingerprint,
    /// Integrity of answers to authenticated requests.
    Integrity,
}

/// One run of one check.
pub struct Trial<'a> {
    /// What the run was told.
    pub options: &'a Options,
    /// What was found out before.
    pub facts: &'a Facts,
    record: RefCell<VecDeque<String>>,
    lints: RefCell<Vec<(Lint, String)>>,
    random: Cell<u64>,
}

impl<'a> Trial<'a> {
    /// `seed` decides everything that this check chooses by chance.
    pub fn new(options: &'a Options, facts: &'a Facts, seed: u64) -> Self {
        Self {
            options,
            facts,
            record: RefCell::default(),
            lints: RefCell::default(),
            random: Cell::new(seed),
        }
    }

    /// Whether messages travel in a stream.
    pub fn is_stream(&self) -> bool {
        self.options.dialer.transport.is_stream()
    }

    /// Notes bytes that were sent (`->`) or came (`<-`).
    pub fn note(&self, arrow: &str, bytes: &[u8]) {
        self.remark(&format!("{arrow} {}", hex(bytes)));
    }

    /// Notes something in words.
    pub fn remark(&self, line: &str) {
        let mut record = self.record.borrow_mut();
        if record.len() == RECORD_MAX {
            record.pop_front();
        }
        record.push_back(line.to_owned());
    }

    /// Notes a fault that belongs to another rule.
    pub fn lint(&self, lint: Lint, what: String) {
        self.lints.borrow_mut().push((lint, what));
    }

    /// What was recorded.
    pub fn into_record(self) -> (Vec<String>, Vec<(Lint, String)>) {
        (self.record.into_inner().into(), self.lints.into_inner())
    }

    /// The next number of this check's own sequence (SplitMix64).
    pub fn random(&self) -> u64 {
        self.random.set(self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let mut z = self.random.get();
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A new transaction id: the operating system's randomness, as RFC 8489 section 5 wants it.
    pub fn id(&self) -> Id {
        let mut id = [0; 12];
        getrandom::fill(&mut id).expect("the operating system has randomness");
        id
    }

    /// A client on a new five-tuple that knows no realm and no nonce.
    ///
    /// # Errors
    /// It cannot connect.
    pub fn stranger(&self) -> Result<Client<'_>, Stop> {
        Client::connect(self, &self.options.login)
    }

    /// A client on a new five-tuple that has been challenged.
    ///
    /// # Errors
    /// It cannot connect, or is not challenged.
    pub fn client(&self) -> Result<Client<'_>, Stop> {
        self.client_of(&self.options.login)
    }

    /// The same as another user.
    ///
    /// # Errors
    /// As [`Trial::client`].
    pub fn client_of(&self, login: &Login) -> Result<Client<'_>, Stop> {
        let mut client = Client::connect(self, login)?;
        client.challenge()?;
        Ok(client)
    }

    /// A client with an allocation of the family of our peers.
    ///
    /// # Errors
    /// As [`Trial::client`], or it is refused.
    pub fn allocated(&self) -> Result<Client<'_>, Stop> {
        let mut client = self.client()?;
        client.allocate()?;
        Ok(client)
    }

    /// A client with an IPv4 and an IPv6 relayed address.
    ///
    /// # Errors
    /// The server has no both.
    pub fn allocated_dual(&self) -> Result<Client<'_>, Stop> {
        if !self.facts.dual {
            return Err(skip("the server does not relay IPv4 and IPv6 from one allocation"));
        }
        let mut client = self.client()?;
        let answer = client.ask(kind::ALLOCATE, |w| {
            w.with(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0])
                .with(attribute::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0])
        })?;
        client.took(&answer)?;
        Ok(client)
    }

    /// A client with an allocation, a peer, and a permission for it.
    ///
    /// # Errors
    /// As [`Trial::allocated`]; skipped where the server forbids our peer's address.
    pub fn call(&self) -> Result<(Client<'_>, Peer<'_>), Stop> {
        let mut client = self.allocated()?;
        let peer = Peer::new(self)?;
        self.permit(&mut client, &peer)?;
        Ok((client, peer))
    }

    /// CreatePermission for our own peer.
    ///
    /// # Errors
    /// Skipped where the server forbids its address.
    pub fn permit(&self, client: &mut Client<'_>, peer: &Peer<'_>) -> Result<(), Stop> {
        let answer = client.ask(kind::CREATE_PERMISSION, |w| {
            w.with_xor_address(attribute::XOR_PEER_ADDRESS, peer.address())
        })?;
        match answer.code() {
            None if answer.is_success() => Ok(()),
            Some(403) => Err(skip(format!(
                "the server forbids {} as a peer: allow it there, or give another --peer-address",
                peer.address().ip()
            ))),
            _ => Err(fail("a permission for our peer", answer.summary())),
        }
    }
}
