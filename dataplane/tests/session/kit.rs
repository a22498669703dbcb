//! A session thread under test, and clients that write and read plainly.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test binary uses its own part")]

pub use crate::rig::{PATIENCE, channel_data, stun};
use crate::rig::{Rig, Told, config};
use dataplane::session::{Ending, SessionSnapshot};
use dataplane::{Client, Config, Identity, Route, Sessions, Transport, Tuning, monotonic};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// The number of the session thread beside one worker.
pub const SESSION: usize = 1;

/// A key of the kind that `openssl genpkey` makes.
#[derive(Clone, Copy, Debug)]
pub enum KeyKind {
    P256,
    Rsa,
}

/// A directory of a test's own, gone afterwards.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("turnwire-session-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// A self-signed certificate and its key: their files.
    pub fn certificate(&self, name: &str, kind: KeyKind) -> [PathBuf; 2] {
        let [certificate, key] = ["crt", "key"].map(|end| self.0.join(format!("{name}.{end}")));
        let kind: &[&str] = match kind {
            KeyKind::P256 => &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
            KeyKind::Rsa => &["-newkey", "rsa:2048"],
        };
        let made = Command::new("openssl")
            .args(["req", "-x509", "-nodes", "-days", "30", "-sha256"])
            .args(["-subj", &format!("/CN={name}"), "-addext", "subjectAltName=IP:127.0.0.1"])
            .args(kind)
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output()
            .expect("openssl is installed");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        [certificate, key]
    }

    pub fn identity(&self, name: &str, kind: KeyKind) -> Arc<Identity> {
        let [certificate, key] = self.certificate(name, kind);
        Arc::new(Identity::load(&certificate, &key).unwrap())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // the test is over either way
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// One worker and one session thread, with TCP.
pub fn start(change: impl FnOnce(&mut Sessions)) -> Rig {
    let mut sessions =
        Sessions { tcp_listen: vec!["127.0.0.1:0".parse().unwrap()], ..Sessions::default() };
    change(&mut sessions);
    Rig::tuned(Config { sessions, ..config(1, &["127.0.0.1:0"]) }, Tuning::default())
}

/// The same with a P-256 identity, TCP, TLS and DTLS.
pub fn start_secure(folder: &Folder, change: impl FnOnce(&mut Sessions)) -> Rig {
    start(|sessions| {
        sessions.tls_listen = vec!["127.0.0.1:0".parse().unwrap()];
        sessions.dtls_listen = vec!["127.0.0.1:0".parse().unwrap()];
        sessions.identity = Some(folder.identity("first", KeyKind::P256));
        change(sessions);
    })
}

impl Rig {
    pub fn tcp(&self) -> SocketAddr {
        self.plane.session_addresses().tcp[0]
    }

    pub fn tls(&self) -> SocketAddr {
        self.plane.session_addresses().tls[0]
    }

    pub fn dtls(&self) -> SocketAddr {
        self.plane.session_addresses().dtls[0]
    }

    /// The session thread's counters.
    pub fn session(&self) -> SessionSnapshot {
        self.plane.stats().sessions[0].clone()
    }

    /// Waits until this many have ended for this.
    pub fn until_ended(&mut self, ending: Ending, count: u64) {
        self.until(ending.name(), |stats| stats.sessions[0].ended(ending) == count);
    }

    /// The one message that a client sends, as the control thread is told of it.
    pub fn heard(&mut self) -> (Client, Vec<u8>) {
        let told = self.told(1, PATIENCE);
        let [Told::Client { worker: SESSION, transport, local, remote, bytes, .. }] = &told[..]
        else {
            panic!("{told:?}")
        };
        (Client { transport: *transport, local: *local, remote: *remote }, bytes.clone())
    }

    /// A channel of `client` to `peer`, on a relay port of its own.
    pub fn bind_channel(&mut self, client: Client, channel: u16, peer: SocketAddr) -> Route {
        let (port, relay) = self.open(SESSION, "127.0.0.1");
        let route = Route {
            transport: client.transport,
            client: client.remote,
            listener: client.local,
            channel,
            relay,
            port,
            peer,
            expires: monotonic() + Duration::from_secs(600),
            inner: false,
        };
        let before = self.session().routes;
        self.plane.add_route(&route).unwrap();
        self.plane.flush();
        self.until("the channel is there", |stats| stats.sessions[0].routes > before);
        route
    }
}

/// The five-tuple of a TCP client.
pub fn tcp_client(stream: &TcpStream) -> Client {
    let (local, remote) = (stream.peer_addr().unwrap(), stream.local_addr().unwrap());
    Client { transport: Transport::Tcp, local, remote }
}

pub fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Writes and shows itself to the control thread: a client with a first message behind it.
pub fn introduce(rig: &mut Rig, stream: &mut TcpStream) -> Client {
    stream.write_all(&stun(4)).unwrap();
    let (client, bytes) = rig.heard();
    assert_eq!((client, bytes), (tcp_client(stream), stun(4)));
    client
}

/// Exactly so many bytes.
pub fn read(stream: &mut impl Read, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// The other side ends the connection, and sends not a byte before.
pub fn assert_closed_without_a_byte(stream: &mut TcpStream) {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
    }
    assert_eq!(bytes, []);
}

pub fn peer() -> UdpSocket {
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer
}

pub fn receive(peer: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut bytes = vec![0; 65_535];
    let (size, from) = peer.recv_from(&mut bytes).unwrap();
    bytes.truncate(size);
    (bytes, from)
}

/// The first flight of a client that exists no more.
pub fn client_hello() -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}
