//! Requests written by hand, with `turn`'s codec: for what its client does not do, over UDP and over
//! connections.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};

use turn::integrity::{Hash, Key};
use turn::message::{Builder, Class, Message, Method, TransactionId};

use crate::client::socket;
use crate::relay::SOON;

/// UDP, in REQUESTED-TRANSPORT.
pub(crate) const UDP: u8 = 17;

/// Bytes of a message's header.
const HEADER: usize = 20;

/// A way to the relay.
pub(crate) enum Line {
    Datagrams(UdpSocket),
    Stream(TcpStream),
}

impl Line {
    /// From a socket of its own to `server`.
    pub(crate) fn datagrams(server: SocketAddr) -> Line {
        let socket = socket();
        socket.connect(server).expect("connected");
        Line::Datagrams(socket)
    }

    /// Sends a request, and waits for the message that comes back.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> Vec<u8> {
        match self {
            Line::Datagrams(socket) => {
                socket.send(request).expect("sent");
                let mut answer = vec![0; 65_536];
                let len = socket.recv(&mut answer).expect("an answer");
                answer.truncate(len);
                answer
            }
            Line::Stream(stream) => {
                stream.set_read_timeout(Some(SOON)).expect("a timeout");
                stream.write_all(request).expect("written");
                let mut answer = vec![0; HEADER];
                stream.read_exact(&mut answer).expect("a header");
                let len = u16::from_be_bytes([answer[2], answer[3]]);
                answer.resize(HEADER + usize::from(len), 0);
                stream.read_exact(&mut answer[HEADER..]).expect("the rest");
                answer
            }
        }
    }
}

/// A request without credentials.
pub(crate) fn request(method: Method, fill: impl FnOnce(&mut Builder<'_>)) -> Vec<u8> {
    static SENT: AtomicU64 = AtomicU64::new(0);
    let mut transaction = [0x5a; 12];
    transaction[4..].copy_from_slice(&SENT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    let mut bytes = Vec::new();
    let mut builder = Builder::new(&mut bytes, Class::Request, method, TransactionId(transaction));
    fill(&mut builder);
    builder.finish().expect("fits");
    bytes
}

/// The code of an error; 0 is success.
pub(crate) fn code(answer: &[u8]) -> u16 {
    let message = Message::parse(answer).expect("a message");
    message.error_code().expect("well formed").map_or(0, |error| error.code.value())
}

/// What a challenge says.
pub(crate) struct Challenge {
    /// The 401 itself.
    pub(crate) answer: Vec<u8>,
    pub(crate) realm: String,
    nonce: Vec<u8>,
}

impl Challenge {
    /// Asks for an allocation without credentials.
    pub(crate) fn of(line: &mut Line) -> Challenge {
        let bare = request(Method::ALLOCATE, |b| _ = b.requested_transport(UDP).lifetime_secs(600));
        let answer = line.exchange(&bare);
        assert_eq!(code(&answer), 401);
        let message = Message::parse(&answer).expect("a message");
        let realm = message.realm().expect("well formed").expect("REALM").to_owned();
        let nonce = message.nonce().expect("well formed").expect("NONCE").to_vec();
        Challenge { answer, realm, nonce }
    }

    /// Sends a request that `name` has signed with `key`. A signature of the answer is checked.
    pub(crate) fn ask(
        &self,
        line: &mut Line,
        method: Method,
        (name, key): (&str, &Key),
        fill: impl FnOnce(&mut Builder<'_>),
    ) -> Vec<u8> {
        let signed = request(method, |b| {
            fill(b);
            b.username(name).realm(&self.realm).nonce(&self.nonce);
            b.integrity(key, Hash::Sha1);
        });
        let answer = line.exchange(&signed);
        let message = Message::parse(&answer).expect("a message");
        if message.has_integrity() {
            assert_eq!(key.verify(&message), Ok(Hash::Sha1), "signed with the client's key");
        }
        answer
    }
}
