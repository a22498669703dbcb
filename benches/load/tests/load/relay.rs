//! Real servers: Turnwire, built beside this test, and coturn where it is installed.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use turnwire_tests::ports;
use turnwire_tests::relay::turnwire_binary;

use super::tool::{Done, call, scratch};

/// A server, until it is dropped.
pub(crate) struct Relay {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// Where coturn has TLS.
    pub(crate) tls: SocketAddr,
    log: PathBuf,
}

/// A port that is free over UDP and TCP.
pub(crate) fn free_port() -> u16 {
    ports::free(&[Ipv4Addr::LOCALHOST.into()])
}

/// A loopback address of its own for each server's relay ports, apart from the kernel's choices.
fn relay_ip() -> String {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    format!("127.77.{}.{}", std::process::id() % 250, NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Relay {
    /// Runs the program's command `verb` against this relay, as the user `u`, with these words.
    pub(crate) fn call(&self, verb: &str, words: &[&str]) -> Done {
        let address = self.address.to_string();
        let usual = [verb, "--server", &address, "--user", "u", "--password", "p"];
        call(&[&usual, words].concat())
    }

    /// Turnwire on loopback with the user `u`, password `p` and the secret `s`.
    pub(crate) fn turnwire(more: &[&str]) -> Relay {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut command = Command::new(turnwire_binary().expect("turnwire builds"));
        command.args(["serve", "--xdp-mode", "off", "--user", "u:p", "--auth-secret", "s"]);
        command.args(["--peer-policy", "lan", "--allow-peer", "127.0.0.0/8"]);
        command.args(["--listen", &address.to_string(), "--admin", &admin.to_string()]);
        command.args(["--relay-ip", &relay_ip()]).args(more);
        Relay::start(command, address, admin)
    }

    /// coturn on loopback with the user `u` and the password `p`; `None` where it is not installed.
    pub(crate) fn coturn() -> Option<Relay> {
        Relay::coturn_with(certificate())
    }

    /// The same with this certificate and its key, in one PEM file, for TLS.
    pub(crate) fn coturn_with(certificate: Option<PathBuf>) -> Option<Relay> {
        Command::new("turnserver").arg("--version").output().ok()?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut command = Command::new("turnserver");
        command.args(["-n", "--no-cli", "--no-dtls", "--lt-cred-mech"]);
        command.args(["--realm", "test", "--user", "u:p", "--allow-loopback-peers"]);
        command.args(["--listening-ip", "127.0.0.1", "--relay-ip", &relay_ip()]);
        command.args(["--listening-port", &address.port().to_string(), "--log-file", "stdout"]);
        command.arg("--pidfile").arg(scratch("coturn.pid"));
        command.arg("--userdb").arg(scratch("coturn.db"));
        let tls = SocketAddr::from(([127, 0, 0, 1], free_port()));
        match certificate {
            Some(pem) => {
                command.args(["--tls-listening-port", &tls.port().to_string()]);
                command.arg("--cert").arg(&pem).arg("--pkey").arg(&pem);
            }
            None => {
                command.arg("--no-tls");
            }
        }
        let mut relay = Relay::start(command, address, address);
        relay.tls = tls;
        Some(relay)
    }

    fn start(mut command: Command, address: SocketAddr, admin: SocketAddr) -> Relay {
        let log = scratch("relay.log");
        let out = std::fs::File::create(&log).expect("a log");
        let error = out.try_clone().expect("a log");
        let child = command.stdin(Stdio::null()).stdout(out).stderr(error).spawn();
        let mut relay =
            Relay { child: child.expect("the server starts"), address, admin, tls: address, log };
        relay.wait();
        relay
    }

    /// Until it answers a Binding request.
    #[allow(clippy::disallowed_methods, reason = "tests may look at the clock")]
    fn wait(&mut self) {
        let request: Vec<u8> = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) {
            let _ = socket.send_to(&request, self.address);
            if socket.recv(&mut [0; 1500]).is_ok() {
                return;
            }
            assert!(self.child.try_wait().expect("a state").is_none(), "{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the server does not answer: {}", self.log());
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The sum of a metric's samples whose labels contain all these texts.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        let mut http = TcpStream::connect(self.admin).expect("the admin server");
        http.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .expect("a request");
        let mut text = String::new();
        http.read_to_string(&mut text).expect("an answer");
        let samples = text.lines().filter(|line| line.starts_with(name));
        let samples = samples.filter(|line| labels.iter().all(|label| line.contains(label)));
        let values = samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.sum::<f64>() as u64
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_file(&self.log);
    }
}

/// A key and a certificate of its own for 127.0.0.1, in one PEM file; `None` without openssl(1).
pub(crate) fn certificate() -> Option<PathBuf> {
    let (key, certificate) = (scratch("key.pem"), scratch("cert.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    openssl.args(["-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]);
    openssl.args(["-addext", "subjectAltName=IP:127.0.0.1"]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
    let made = openssl.stdout(Stdio::null()).stderr(Stdio::null()).status().ok()?.success();
    let both = [std::fs::read(&key).ok()?, std::fs::read(&certificate).ok()?].concat();
    let path = scratch("both.pem");
    std::fs::write(&path, both).ok()?;
    made.then_some(path)
}

/// A certificate authority of its own, and a key and certificate for 127.0.0.1 that it signed, in
/// one PEM file; `None` without openssl(1).
pub(crate) fn authority() -> Option<(PathBuf, PathBuf)> {
    let [ca_key, ca, key, request, certificate, both] =
        ["ca-key.pem", "ca.pem", "key.pem", "csr.pem", "cert.pem", "both.pem"].map(scratch);
    let extensions = scratch("extensions");
    std::fs::write(&extensions, "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").ok()?;
    let curve = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    let script = format!(
        "openssl req -x509 {curve} -days 2 -subj /CN=lab -keyout {} -out {}
        openssl req {curve} -subj /CN=127.0.0.1 -keyout {} -out {}
        openssl x509 -req -in {} -CA {} -CAkey {} -CAcreateserial -days 2 -extfile {} -out {}
        cat {} {} >{}",
        ca_key.display(),
        ca.display(),
        key.display(),
        request.display(),
        request.display(),
        ca.display(),
        ca_key.display(),
        extensions.display(),
        certificate.display(),
        key.display(),
        certificate.display(),
        both.display()
    );
    let made = Command::new("sh").args(["-ec", &script]).output().ok()?.status.success();
    made.then_some((ca, both))
}
