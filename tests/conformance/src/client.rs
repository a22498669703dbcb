//! A client on one five-tuple. It records what it sends and what comes, and gives its allocation
//! back when it is dropped.

#![allow(clippy::disallowed_methods, reason = "sockets are the edge where the clock is read")]

mod data;
mod volley;

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dial::{Link, Received};

pub use data::Data;

use crate::check::{Stop, Verdict, fail};
use crate::codec::{Algorithm, Answer, Hash, Writer, attribute, kind, long_term_key};
use crate::options::Login;
use crate::trial::{Lint, Trial};

/// When a request is sent again over datagrams, in milliseconds from the start; the last is when to
/// give up. Streams wait as long.
const SCHEDULE_MS: [u64; 5] = [300, 900, 2000, 4000, 7000];
/// How long a stream gets to be closed by the server.
pub const CLOSING: Duration = Duration::from_secs(5);

/// How requests are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// MESSAGE-INTEGRITY and MD5, as before RFC 8489.
    Sha1,
    /// PASSWORD-ALGORITHM(S) and MESSAGE-INTEGRITY-SHA256.
    Sha256(Algorithm),
}

/// See the module.
pub struct Client<'t> {
    /// The check that it is for.
    pub trial: &'t Trial<'t>,
    /// Its five-tuple.
    pub link: Link,
    /// Who it is.
    pub login: Login,
    /// From the challenge.
    pub realm: String,
    /// From the last challenge.
    pub nonce: Vec<u8>,
    /// PASSWORD-ALGORITHMS from the challenge.
    pub algorithms: Option<Vec<u8>>,
    /// How it signs.
    pub mode: Mode,
    /// Its relayed addresses.
    pub relayed: Vec<SocketAddr>,
    /// What came and was not waited for.
    pub inbox: VecDeque<Vec<u8>>,
    /// The server has closed the stream.
    pub closed: bool,
    /// Data that was expected and has come.
    pub past: Vec<Data>,
    /// Transactions that have had their response: to a retransmission there may be another.
    answered: HashSet<Vec<u8>>,
}

/// Ports that this program has sent from.
static USED: Mutex<BTreeSet<SocketAddr>> = Mutex::new(BTreeSet::new());
/// Ports of the kernel's choice that are let go because they were used before.
const PORTS_MAX: usize = 32;

/// A five-tuple that no check had before, where the host has such a port: a server may go on
/// answering for the last one's allocation for a while (coturn does).
fn new_five_tuple(trial: &Trial<'_>) -> Result<Link, Stop> {
    // kept open meanwhile, so that the kernel chooses another
    let mut passed_over = Vec::new();
    loop {
        let link = trial.options.dialer.dial();
        let link = link.map_err(|error| fail("a connection", error.to_string()))?;
        let is_new = link.local().map_or(true, |local| {
            USED.lock().unwrap_or_else(PoisonError::into_inner).insert(local)
        });
        if is_new || passed_over.len() == PORTS_MAX {
            return Ok(link);
        }
        passed_over.push(link);
    }
}

impl<'t> Client<'t> {
    /// On a new five-tuple.
    ///
    /// # Errors
    /// It cannot connect.
    pub fn connect(trial: &'t Trial<'t>, login: &Login) -> Result<Self, Stop> {
        let link = new_five_tuple(trial)?;
        Ok(Self {
            trial,
            link,
            login: login.clone(),
            realm: String::new(),
            nonce: Vec::new(),
            algorithms: None,
            mode: Mode::Sha1,
            relayed: Vec::new(),
            inbox: VecDeque::new(),
            closed: false,
            past: Vec::new(),
            answered: HashSet::new(),
        })
    }

    /// This end's address, before any NAT.
    pub fn local(&self) -> SocketAddr {
        self.link.local().unwrap_or(SocketAddr::new(IpAddr::from([0, 0, 0, 0]), 0))
    }

    /// A message with a new transaction id.
    pub fn write(&self, kind: u16) -> Writer {
        Writer::new(kind, self.trial.id())
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send(&mut self, bytes: &[u8]) -> Verdict {
        self.trial.note("->", bytes);
        let sent = self.link.send(bytes);
        sent.map_err(|error| fail("a connection that takes bytes", error.to_string()))
    }

    /// The next message, whatever it is.
    ///
    /// # Errors
    /// The host fails.
    pub fn receive(&mut self, limit: Duration) -> Result<Option<Vec<u8>>, Stop> {
        let came = self.link.receive(limit);
        match came.map_err(|error| fail("a connection", error.to_string()))? {
            Received::Message(bytes) => {
                self.trial.note("<-", &bytes);
                Ok(Some(bytes))
            }
            Received::Foreign(bytes) => {
                self.trial.note("<- (no message)", &bytes);
                Err(fail("whole STUN or ChannelData messages", "bytes that are neither"))
            }
            Received::Closed => {
                if !self.closed {
                    self.trial.remark("<- closed");
                }
                self.closed = true;
                Ok(None)
            }
            Received::Nothing => Ok(None),
        }
    }

    /// Sends a request, again if need be, and gives its response.
    ///
    /// # Errors
    /// There is none.
    pub fn exchange(&mut self, request: &[u8]) -> Result<Answer, Stop> {
        let closed = "the connection was closed";
        let answer = self.exchange_or_silence(request)?;
        answer.ok_or_else(|| fail("a response", if self.closed { closed } else { "silence" }))
    }

    /// The same where silence is an answer, too.
    ///
    /// # Errors
    /// The host fails.
    pub fn exchange_or_silence(&mut self, request: &[u8]) -> Result<Option<Answer>, Stop> {
        let start = Instant::now();
        self.send(request)?;
        for (attempt, at) in SCHEDULE_MS.into_iter().enumerate() {
            if attempt > 0 && !self.trial.is_stream() {
                self.send(request)?;
            }
            let until = start + Duration::from_millis(at);
            if let Some(answer) = self.response(&request[8..20], until)? {
                self.answered.insert(request[8..20].to_vec());
                return Ok(Some(answer));
            }
            if self.closed {
                break;
            }
        }
        Ok(None)
    }

    /// The response of a transaction, if it comes in time; all else goes to the inbox.
    ///
    /// # Errors
    /// The host fails.
    pub fn response(&mut self, id: &[u8], until: Instant) -> Result<Option<Answer>, Stop> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let Some(bytes) = self.receive(left)? else {
                if self.closed {
                    return Ok(None);
                }
                continue;
            };
            match self.read(&bytes) {
                Some(answer) if answer.id[..] == *id && answer.is_response() => {
                    return Ok(Some(answer));
                }
                _ => self.keep(bytes),
            }
        }
    }

    /// Keeps what nobody waits for, but for responses that came already.
    pub fn keep(&mut self, bytes: Vec<u8>) {
        let late = bytes.get(8..20).is_some_and(|id| self.answered.contains(id));
        if !(late && bytes[0] >> 6 == 0) {
            self.inbox.push_back(bytes);
        }
    }

    /// Reads a STUN message and notes what is wrong with it; `None` for ChannelData.
    pub fn read(&self, bytes: &[u8]) -> Option<Answer> {
        if bytes.first().is_none_or(|first| first >> 6 != 0) {
            return None;
        }
        match Answer::read(bytes) {
            Ok(answer) => {
                if answer.attributes.iter().any(|attribute| !attribute.padded_with_zeros) {
                    self.trial.lint(Lint::Padding, crate::codec::hex(bytes));
                }
                if let Err(what) = answer.verify_fingerprint() {
                    self.trial.lint(Lint::Fingerprint, what);
                }
                Some(answer)
            }
            Err(what) => {
                self.trial.lint(Lint::Format, format!("{what}: {}", crate::codec::hex(bytes)));
                None
            }
        }
    }

    /// Gets realm and nonce by an Allocate without integrity.
    ///
    /// # Errors
    /// The answer is no 401 with both.
    pub fn challenge(&mut self) -> Result<Answer, Stop> {
        let request =
            self.write(kind::ALLOCATE).with(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
        let answer = self.exchange(&request.bytes())?;
        if answer.code() != Some(401) {
            return Err(fail("401 to an Allocate without integrity", answer.summary()));
        }
        self.take_challenge(&answer)?;
        Ok(answer)
    }

    /// Takes realm, nonce and algorithms from a 401 or 438.
    ///
    /// # Errors
    /// One is missing.
    pub fn take_challenge(&mut self, answer: &Answer) -> Verdict {
        let missing = |what: &str| fail(format!("{what} in a challenge"), "none");
        let realm = answer.value(attribute::REALM).ok_or_else(|| missing("REALM"))?;
        self.realm = String::from_utf8_lossy(realm).into_owned();
        self.nonce = answer.value(attribute::NONCE).ok_or_else(|| missing("NONCE"))?.to_vec();
        self.algorithms = answer.value(attribute::PASSWORD_ALGORITHMS).map(<[u8]>::to_vec);
        Ok(())
    }

    /// The key of this client's user.
    pub fn key(&self) -> Vec<u8> {
        let algorithm = match self.mode {
            Mode::Sha1 => Algorithm::Md5,
            Mode::Sha256(algorithm) => algorithm,
        };
        long_term_key(algorithm, &self.login.user, &self.realm, &self.login.password)
    }

    /// The hash that this client's requests and their responses are signed with.
    pub fn hash(&self) -> Hash {
        if self.mode == Mode::Sha1 { Hash::Sha1 } else { Hash::Sha256 }
    }

    /// Adds USERNAME, REALM, NONCE, and the algorithms where the mode has them.
    pub fn credentials(&self, writer: Writer) -> Writer {
        let writer = writer
            .with(attribute::USERNAME, self.login.user.as_bytes())
            .with(attribute::REALM, self.realm.as_bytes())
            .with(attribute::NONCE, &self.nonce);
        match (self.mode, &self.algorithms) {
            (Mode::Sha256(algorithm), Some(list)) => writer
                .with(attribute::PASSWORD_ALGORITHMS, list)
                .with(attribute::PASSWORD_ALGORITHM, &algorithm.value()),
            _ => writer,
        }
    }

    /// Adds credentials and integrity.
    pub fn sign(&self, writer: Writer) -> Writer {
        self.credentials(writer).sign(self.hash(), &self.key())
    }

    /// Sends a signed request and gives its response; a stale nonce is renewed once. The response's
    /// integrity is looked at.
    ///
    /// # Errors
    /// There is no response.
    pub fn ask(&mut self, kind: u16, fill: impl Fn(Writer) -> Writer) -> Result<Answer, Stop> {
        let request = self.sign(fill(self.write(kind))).bytes();
        let mut answer = self.exchange(&request)?;
        if answer.code() == Some(438) {
            self.take_challenge(&answer)?;
            let request = self.sign(fill(self.write(kind))).bytes();
            answer = self.exchange(&request)?;
        }
        if !matches!(answer.code(), Some(401 | 438))
            && let Err(what) = answer.verify(self.hash(), &self.key())
        {
            self.trial.lint(Lint::Integrity, format!("{what} in {}", answer.summary()));
        }
        Ok(answer)
    }

    /// Allocates a relayed address of our peers' family.
    ///
    /// # Errors
    /// It is refused.
    pub fn allocate(&mut self) -> Result<Answer, Stop> {
        let v6 = self.trial.options.peer_ip.is_ipv6();
        let answer = self.ask(kind::ALLOCATE, |w| {
            let w = w.with(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
            if v6 { w.with(attribute::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]) } else { w }
        })?;
        self.took(&answer)?;
        Ok(answer)
    }

    /// Notes that an Allocate has succeeded.
    ///
    /// # Errors
    /// It has not.
    pub fn took(&mut self, answer: &Answer) -> Verdict {
        self.relayed = answer.xor_addresses(attribute::XOR_RELAYED_ADDRESS);
        if answer.is_success() && !self.relayed.is_empty() {
            return Ok(());
        }
        Err(fail("an allocation", answer.summary()))
    }

    /// The first relayed address.
    pub fn relay(&self) -> SocketAddr {
        self.relayed.first().copied().unwrap_or(SocketAddr::new(IpAddr::from([0, 0, 0, 0]), 0))
    }

    /// Refresh with a lifetime.
    ///
    /// # Errors
    /// There is no response.
    pub fn refresh(&mut self, secs: u32) -> Result<Answer, Stop> {
        self.ask(kind::REFRESH, |w| w.with_u32(attribute::LIFETIME, secs))
    }

    /// Fails unless the allocation is alive.
    ///
    /// # Errors
    /// It is not.
    pub fn is_alive(&mut self) -> Verdict {
        let answer = self.refresh(600)?;
        if answer.is_success() {
            return Ok(());
        }
        Err(fail("an allocation that is still there", answer.summary()))
    }
}

impl Drop for Client<'_> {
    fn drop(&mut self) {
        if self.relayed.is_empty() || self.closed {
            return;
        }
        // The check is over, whatever comes of this; a lost datagram costs the server a lifetime.
        let request = self.sign(self.write(kind::REFRESH).with_u32(attribute::LIFETIME, 0)).bytes();
        for _ in 0..3 {
            if self.link.send(&request).is_err() {
                return;
            }
            let until = Instant::now() + Duration::from_millis(300);
            if matches!(self.response(&request[8..20], until), Ok(Some(_)) | Err(_)) {
                return;
            }
        }
    }
}
