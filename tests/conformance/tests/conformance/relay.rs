//! Servers on loopback, as child processes.

use std::io::Read;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use turnwire_tests::ports;
use turnwire_tests::relay::turnwire_binary;

/// The user that every server here has.
pub(crate) const USER: (&str, &str) = ("alice", "wonderland");
/// Another one.
pub(crate) const OTHER: &str = "bob:builder";
/// What a server may take to start, on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// A server; it ends when this is dropped.
pub(crate) struct Server {
    child: Child,
    folder: PathBuf,
    /// Where it speaks UDP and TCP.
    pub(crate) plain: SocketAddr,
    /// Where it speaks DTLS and TLS.
    pub(crate) secure: SocketAddr,
    /// Its certificate.
    pub(crate) certificate: PathBuf,
}

/// Certificate and key in a folder of their own; `None` without openssl(1).
fn identity(folder: &Path) -> Option<(PathBuf, PathBuf)> {
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    openssl.args(["-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]);
    openssl.args(["-addext", "subjectAltName=IP:127.0.0.1"]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
    let done = openssl.stdout(Stdio::null()).stderr(Stdio::null()).status().ok()?;
    done.success().then_some((certificate, key))
}

fn folder() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("turnwire-conformance-{}-{number}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A port that nobody has, for UDP and TCP.
pub(crate) fn free_port(ip: &str) -> SocketAddr {
    let ip = ip.parse().unwrap();
    SocketAddr::new(ip, ports::free(&[ip]))
}

impl Server {
    /// Turnwire with everything it can do; `None` without openssl(1).
    pub(crate) fn turnwire(more: &[&str]) -> Option<Server> {
        let folder = folder();
        let (certificate, key) = identity(&folder)?;
        let (plain, secure) = (free_port("127.0.0.1"), free_port("127.0.0.1"));
        let mut command = Command::new(turnwire_binary().unwrap());
        for name in ["TURNWIRE_USER", "TURNWIRE_AUTH_SECRET", "TURNWIRE_LOG"] {
            command.env_remove(name);
        }
        command.args(["serve", "--admin=off", "--relay-ip=127.0.0.1", "--relay-ip=::1"]);
        command.args(["--allow-peer=127.0.0.0/8", "--allow-peer=::1/128"]);
        command.args(["--tcp-relay", "--mobility", "--relay-ports=50000-59999"]);
        command.arg(format!("--listen={plain}")).arg(format!("--tls-listen={secure}"));
        command.arg("--cert").arg(&certificate).arg("--key").arg(&key);
        command.args(["--user", &format!("{}:{}", USER.0, USER.1), "--user", OTHER]).args(more);
        Some(Server::start(command, folder, plain, secure, certificate))
    }

    /// coturn on its default settings; `None` where it or openssl(1) is not installed.
    pub(crate) fn coturn() -> Option<Server> {
        Command::new("turnserver").arg("--version").output().ok()?;
        let folder = folder();
        let (certificate, key) = identity(&folder)?;
        let (plain, secure) = (free_port("127.0.0.1"), free_port("127.0.0.1"));
        let mut command = Command::new("turnserver");
        command.args(["-n", "--no-cli", "--lt-cred-mech", "--realm", "test", "--mobility"]);
        command.args(["--user", &format!("{}:{}", USER.0, USER.1), "--user", OTHER]);
        command.args(["--allow-loopback-peers", "--listening-ip", "127.0.0.1"]);
        command.args(["--relay-ip", "127.0.0.1", "--relay-ip", "::1", "--log-file", "stdout"]);
        command.args(["--listening-port", &plain.port().to_string()]);
        command.args(["--tls-listening-port", &secure.port().to_string()]);
        command.arg("--cert").arg(&certificate).arg("--pkey").arg(&key);
        command.arg("--pidfile").arg(folder.join("pid"));
        command.arg("--userdb").arg(folder.join("db"));
        Some(Server::start(command, folder, plain, secure, certificate))
    }

    fn start(
        mut command: Command,
        folder: PathBuf,
        plain: SocketAddr,
        secure: SocketAddr,
        certificate: PathBuf,
    ) -> Server {
        let out = std::fs::File::create(folder.join("log")).unwrap();
        let error = out.try_clone().unwrap();
        let child = command.stdin(Stdio::null()).stdout(out).stderr(error).spawn().unwrap();
        let mut server = Server { child, folder, plain, secure, certificate };
        server.wait();
        server
    }

    /// Until it answers a Binding request and accepts a connection where it speaks TLS.
    #[allow(clippy::disallowed_methods, reason = "a test may look at the clock")]
    fn wait(&mut self) {
        let request: Vec<u8> = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let start = Instant::now();
        while start.elapsed() < SOON {
            assert!(self.child.try_wait().unwrap().is_none(), "{}", self.log());
            let _ = socket.send_to(&request, self.plain);
            if socket.recv(&mut [0; 1500]).is_ok() && TcpStream::connect(self.secure).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the server does not answer: {}", self.log());
    }

    /// What it wrote.
    pub(crate) fn log(&self) -> String {
        let mut text = String::new();
        let file = std::fs::File::open(self.folder.join("log"));
        let _ = file.map(|mut file| file.read_to_string(&mut text));
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
