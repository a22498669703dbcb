//! Ten thousand connections that do nothing, and a client that comes after them.
//!
//! The crowd's ends are in another process, since both together are more descriptors than one may
//! have: this test program, started again with the server's address in its environment.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests wait and measure")]

#[path = "session/kit.rs"]
mod kit;
#[path = "support/rig.rs"]
mod rig;

use dial::{Dialer, Trust};
use kit::*;
use rig::Rig;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const CROWD: usize = 10_000;
const VARIABLE: &str = "TURNWIRE_TEST_CROWD";

/// One crowd at a time: memory is weighed.
static ALONE: Mutex<()> = Mutex::new(());

/// As many descriptors as the host allows, or only so many.
fn limit_descriptors(soft: Option<u64>) {
    #[expect(unsafe_code, reason = "the limit of descriptors is set by a system call")]
    // SAFETY: both calls only read and write the structure that they are given.
    unsafe {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = soft.unwrap_or(limit.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
        assert!(limit.rlim_max as usize > CROWD + 500, "hard limit of {}", limit.rlim_max);
    }
}

/// The crowd itself, in its own process: holds its connections until its input ends.
#[test]
#[ignore = "started by the tests below"]
fn hold() {
    let Ok(what) = std::env::var(VARIABLE) else { return };
    limit_descriptors(None);
    let [kind, server, count] = what.split(' ').collect::<Vec<_>>()[..] else { panic!("{what}") };
    let (server, count): (SocketAddr, usize) = (server.parse().unwrap(), count.parse().unwrap());
    let hello = client_hello();
    let first: &[u8] = if kind == "tls" { &hello } else { &stun(4)[..1] };
    let held: Vec<_> = (0..count)
        .map(|_| {
            let mut stream = TcpStream::connect(server).unwrap();
            stream.write_all(first).unwrap();
            stream
        })
        .collect();
    println!("\nholding {}", held.len());
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// The process, and its output: closed early, it would fail to write its last line.
struct Crowd(Child, BufReader<ChildStdout>);

impl Crowd {
    fn gather(kind: &str, server: SocketAddr, count: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["hold", "--exact", "--ignored", "--nocapture"])
            .env(VARIABLE, format!("{kind} {server} {count}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut lines = output.by_ref().lines().map_while(Result::ok);
        assert!(lines.any(|line| line.starts_with("holding")), "the crowd did not gather");
        Self(child, output)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // it may have ended before
        let _ = self.1.read_to_end(&mut Vec::new());
        let _ = self.0.wait();
    }
}

/// Resident memory of this process, bytes.
fn memory() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn patient(sessions: &mut dataplane::Sessions) {
    sessions.timers.handshake = Duration::from_secs(300);
    sessions.timers.first_message = Duration::from_secs(300);
}

/// Waits for the crowd, and says what each costs.
fn weigh(rig: &mut Rig, transport: usize, before: usize) -> usize {
    let end = Instant::now() + Duration::from_secs(60);
    while rig.session().open[transport] < CROWD as u64 {
        assert!(Instant::now() < end, "{:#?}", rig.session());
        std::thread::sleep(Duration::from_millis(20));
    }
    let each = memory().saturating_sub(before) / CROWD;
    println!("{CROWD} connections: {each} bytes each");
    each
}

/// One of a few clients is: a busy machine may keep each waiting, and none of them is to wait for the
/// crowd.
fn is_served_in_under_a_second(mut serve: impl FnMut()) {
    let least = (0..10).map(|_| {
        let begun = Instant::now();
        serve();
        println!("served after {:?}", begun.elapsed());
        begun.elapsed()
    });
    let seen = least.take_while(|took| *took >= Duration::from_secs(1)).count();
    assert!(seen < 10, "each waited for longer");
}

#[test]
fn ten_thousand_slow_clients_leave_a_new_one_served_in_under_a_second() {
    let _alone = ALONE.lock().unwrap();
    limit_descriptors(None);
    let mut rig = start(patient);
    let before = memory();
    let crowd = Crowd::gather("tcp", rig.tcp(), CROWD);
    let each = weigh(&mut rig, 1, before);
    assert!(each < 4096, "{each} bytes");
    is_served_in_under_a_second(|| {
        let mut stream = connect(rig.tcp());
        let client = introduce(&mut rig, &mut stream);
        rig.plane.to_client(SESSION, client, &stun(0));
        rig.plane.flush();
        assert_eq!(read(&mut stream, 20), stun(0));
    });
    drop(crowd);
    rig.until("the crowd is gone", |stats| stats.sessions[0].open[1] <= 1);
}

#[test]
fn ten_thousand_half_open_handshakes_leave_a_new_client_served_in_under_a_second() {
    let _alone = ALONE.lock().unwrap();
    limit_descriptors(None);
    let folder = Folder::new("crowd");
    let mut rig = start_secure(&folder, patient);
    let before = memory();
    let crowd = Crowd::gather("tls", rig.tls(), CROWD);
    let each = weigh(&mut rig, 2, before);
    assert!(each < 64 << 10, "{each} bytes");
    let trust = Some(Arc::new(Trust::new("127.0.0.1", None, true).unwrap()));
    let dialer = Dialer { server: rig.tls(), transport: dial::Transport::Tls, trust, local: None };
    is_served_in_under_a_second(|| {
        let mut link = dialer.dial().unwrap();
        link.send(&stun(4)).unwrap();
        let (client, _) = rig.heard();
        rig.plane.to_client(SESSION, client, &stun(0));
        rig.plane.flush();
        assert_eq!(link.receive(PATIENCE).unwrap(), dial::Received::Message(stun(0)));
    });
    drop(crowd);
    rig.until("the crowd is gone", |stats| stats.sessions[0].open[2] <= 1);
}

#[test]
fn accepting_pauses_while_no_descriptor_is_left_and_goes_on_by_itself() {
    let _alone = ALONE.lock().unwrap();
    limit_descriptors(None);
    let mut rig = start(patient);
    let mut served = connect(rig.tcp());
    introduce(&mut rig, &mut served);
    // given a few descriptors and a crowd
    let crowd = {
        let crowd = Crowd::gather("tcp", rig.tcp(), 0);
        let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
        limit_descriptors(Some(open + 20));
        drop(crowd);
        Crowd::gather("tcp", rig.tcp(), 100)
    };
    rig.until("accepting pauses", |stats| stats.sessions[0].accept_pauses > 1);
    let session = rig.session();
    assert!(session.open[1] < 100, "{session:#?}");
    // then who is there is served
    served.write_all(&stun(8)).unwrap();
    assert_eq!(rig.heard().1, stun(8));
    // and the others are, as soon as there is room
    limit_descriptors(None);
    rig.until("all are in", |stats| stats.sessions[0].open[1] == 101);
    drop(crowd);
    rig.until("the crowd is gone", |stats| stats.sessions[0].open[1] == 1);
}
