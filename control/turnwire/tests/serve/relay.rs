//! The program as a child process.

use std::fmt::Debug;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use turnwire::sys::monotonic;

/// Long enough for anything that is going to happen.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// The user that most relays here have.
pub(crate) const USER: (&str, &str) = ("alice", "wonderland");

/// What every relay here is told, so that it serves this host's loopback and nothing else.
pub(crate) const LOOPBACK: [&str; 9] = [
    "serve",
    "--relay-ip=127.0.0.1",
    "--admin=127.0.0.1:0",
    "--peer-policy=lan",
    "--allow-peer=127.0.0.0/8",
    "--log-format=json",
    "--max-allocations=200",
    "--max-channels=200",
    "--relay-ports=61000-65535", // beyond the ports that the kernel chooses of
];

/// The program, not yet started.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnwire"));
    command.env_remove("TURNWIRE_USER").env_remove("TURNWIRE_AUTH_SECRET");
    command.env_remove("TURNWIRE_LOG");
    command
}

/// A relay that serves; killed when it is dropped.
pub(crate) struct Relay {
    child: Child,
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// Where its admin server listens.
    pub(crate) admin: SocketAddr,
    log: Receiver<String>,
    lines: Vec<String>,
}

impl Relay {
    /// Starts a relay with the usual user, listening on any port.
    pub(crate) fn start() -> Relay {
        let user = format!("{}:{}", USER.0, USER.1);
        let mut command = program();
        command.args(LOOPBACK).args(["--listen=127.0.0.1:0", "--user", &user]);
        Relay::start_as(command)
    }

    /// Starts a relay as `command` says, and waits until it serves.
    pub(crate) fn start_as(mut command: Command) -> Relay {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let log = lines_of(child.stderr.take().expect("piped"));
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut relay = Relay { child, listen: nowhere, admin: nowhere, log, lines: Vec::new() };
        let line = relay.logged("listening");
        relay.listen = address(&line);
        let line = relay.logged("admin server listening");
        relay.admin = address(&line);
        relay.logged("serving");
        relay
    }

    /// Waits for a log line whose message starts with `start`.
    pub(crate) fn logged(&mut self, start: &str) -> Value {
        let found = |line: &String| {
            let value: Value = serde_json::from_str(line).ok()?;
            value["message"].as_str()?.starts_with(start).then_some(value)
        };
        loop {
            let Ok(line) = self.log.recv_timeout(SOON) else {
                panic!("{start:?} was not logged in\n{}", self.lines.join("\n"));
            };
            let value = found(&line);
            self.lines.push(line);
            if let Some(value) = value {
                return value;
            }
        }
    }

    /// Everything that was logged while something was waited for.
    pub(crate) fn log_text(&self) -> String {
        self.lines.join("\n")
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// GETs a page of the admin server: status and body.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.admin).expect("the admin server accepts");
        stream.set_read_timeout(Some(SOON)).expect("a timeout");
        stream.write_all(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("read");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        (status.expect("a status"), body.to_owned())
    }

    /// The value of one series of /metrics.
    pub(crate) fn metric(&self, series: &str) -> u64 {
        let (_, page) = self.get("/metrics");
        let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("no {series} in\n{page}"))
    }

    /// Sends a signal by kill(1).
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let done = Command::new("kill").args(["-s", name, &pid]).status().expect("kill(1)");
        assert!(done.success());
    }

    /// Waits for its end.
    pub(crate) fn ended(mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    /// What it wrote to standard output, after its end.
    pub(crate) fn output(mut self) -> String {
        self.signal("TERM");
        let mut text = String::new();
        let mut stdout = self.child.stdout.take().expect("piped");
        stdout.read_to_string(&mut text).expect("text");
        text
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines_of(stderr: ChildStderr) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

fn address(line: &Value) -> SocketAddr {
    let text = line["address"].as_str().expect("an address");
    text.parse().expect("an address")
}

fn wait(child: &mut Child) -> ExitStatus {
    let deadline = monotonic() + SOON;
    loop {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            return status;
        }
        assert!(monotonic() < deadline, "it does not end");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until something is so.
pub(crate) fn eventually(mut so: impl FnMut() -> bool) {
    let deadline = monotonic() + SOON;
    while !so() {
        assert!(monotonic() < deadline, "it does not come to be");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Runs the program to its end: exit code, standard output, standard error.
pub(crate) fn run(mut command: Command) -> (Option<i32>, String, String) {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let status = wait(&mut child);
    let text = |stream: &mut dyn Read| {
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("text");
        text
    };
    let out = text(child.stdout.as_mut().expect("piped"));
    let err = text(child.stderr.as_mut().expect("piped"));
    (status.code(), out, err)
}

/// As [`run`], with arguments only.
pub(crate) fn run_with<S: AsRef<std::ffi::OsStr> + Debug>(
    args: &[S],
) -> (Option<i32>, String, String) {
    let mut command = program();
    command.args(args);
    run(command)
}

/// Takes all privilege from `command`, where the test has any to take: the numbers of `nobody`.
pub(crate) fn unprivileged(command: &mut Command) {
    if std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0)
    {
        command.uid(65534).gid(65534);
    }
}
