//! `turnwire top` beside a relay that relays.

use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use turn::ChannelNumber;

use crate::client::{Client, receive, socket};
use crate::relay::{LOOPBACK, Relay, USER, program, run, run_with};

const CHANNEL: ChannelNumber = ChannelNumber::MIN;
/// Datagrams each way.
const ROUNDS: u32 = 50;

/// A client with a channel, and its peer.
struct Call {
    client: Client,
    peer: UdpSocket,
    relayed: std::net::SocketAddr,
}

impl Call {
    fn new(relay: &Relay) -> Call {
        let mut client = Client::new(relay.listen, USER);
        let relayed = client.allocate().relayed[0];
        let peer = socket();
        client.bind(CHANNEL, peer.local_addr().expect("bound"));
        Call { client, peer, relayed }
    }

    /// Datagrams both ways, each seen to arrive.
    fn talk(&mut self) {
        for _ in 0..ROUNDS {
            self.client.send_on(CHANNEL, &[1; 100]);
            receive(&self.peer);
            self.peer.send_to(&[2; 50], self.relayed).expect("sent");
            self.client.data();
        }
    }
}

fn top(relay: &Relay, args: &[&str]) -> std::process::Command {
    let mut command = program();
    command.arg("top").arg("--admin").arg(relay.admin.to_string()).args(args);
    command
}

/// Killed when it is dropped.
struct Watching(Child);

impl Watching {
    fn start(mut command: std::process::Command) -> Watching {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Watching(command.spawn().expect("the program starts"))
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What happened in one frame: a rate, times its length.
fn count(frame: &Value, rate: &Value) -> f64 {
    let secs = frame["interval_secs"].as_f64().expect("a length");
    rate.as_f64().expect("a rate") * secs
}

/// The first frame from now on that has this.
fn next_with(next: &mut dyn FnMut() -> Value, field: &str, good: fn(&Value) -> bool) -> Value {
    for _ in 0..100 {
        let frame = next();
        if frame.get(field).is_some_and(good) {
            return frame;
        }
    }
    panic!("no frame with {field}");
}

#[test]
fn frames_in_json_count_every_datagram_once_and_tell_of_a_restart() {
    // given
    let relay = Relay::start();
    let mut call = Call::new(&relay);
    let mut watching = Watching::start(top(&relay, &["--json", "--interval", "0.3"]));
    let mut lines = BufReader::new(watching.0.stdout.take().expect("piped")).lines();
    let mut next = || -> Value {
        serde_json::from_str(&lines.next().expect("a line").expect("text")).expect("JSON")
    };
    // when, from one frame that was quiet to another
    next();
    call.talk();
    let frames: Vec<Value> = (0..4).map(|_| next()).collect();
    // then
    let sum = |of: &dyn Fn(&Value) -> &Value| -> f64 {
        frames.iter().map(|frame| count(frame, of(frame))).sum::<f64>().round()
    };
    let rounds = f64::from(ROUNDS);
    let socket = |frame: &Value| frame["tiers"][1].clone();
    assert_eq!(socket(&frames[0])["tier"], "socket");
    assert_eq!(sum(&|frame| &frame["tiers"][1]["to_peer"]["packets_per_sec"]), rounds);
    assert_eq!(sum(&|frame| &frame["tiers"][1]["to_client"]["bytes_per_sec"]), rounds * 50.0);
    assert_eq!(frames[3]["holdings"]["channels"], 1.0);
    assert_eq!(frames[3]["schema"], 1);
    // and each worker's share, by what it received and how
    let workers = frames[0]["workers"].as_array().expect("workers").len();
    let of_workers = |field: &str| -> f64 {
        (0..workers).map(|at| sum(&|frame| &frame["workers"][at][field])).sum()
    };
    assert_eq!(of_workers("in_per_sec"), 2.0 * rounds);
    assert_eq!(of_workers("out_per_sec"), 2.0 * rounds);
    assert!(of_workers("batches_per_sec") >= rounds && of_workers("wakeups_per_sec") >= rounds);
    // and every one is a thread whose time is known
    for worker in frames[0]["workers"].as_array().expect("workers") {
        let threads = frames[0]["threads"].as_array().expect("threads");
        assert!(threads.iter().any(|one| one["thread"] == worker["thread"]), "{worker}");
        assert!(worker["ring_to_control"]["size_bytes"].as_f64() > Some(0.0));
    }
    assert!(sum(&|frame| &frame["process"]["cpu"]) >= 0.0);
    assert!(frames.iter().all(|frame| frame["restarted"] == false));
    // when another relay takes its place, then its first frame is since its start
    relay.signal("KILL");
    let admin = relay.admin;
    relay.ended();
    let mut command = program();
    command.args(LOOPBACK.iter().filter(|arg| !arg.starts_with("--admin")));
    command.args(["--listen=127.0.0.1:0", "--admin", &admin.to_string()]);
    let relay = Relay::start_as(command);
    let anew = next_with(&mut next, "restarted", |value| *value == true);
    assert_eq!(anew["interval_secs"], anew["uptime_secs"]);
    assert_eq!(anew["holdings"]["channels"], 0.0);
    // when it is gone too
    relay.signal("KILL");
    relay.ended();
    let failed = next_with(&mut next, "error", |_| true);
    // then that is told, once a frame, and it ends when nobody comes back
    let error = failed["error"].as_str().expect("text");
    assert!(error.starts_with("nothing answers at 127.0.0.1:"), "{error}");
    let status = watching.0.wait().expect("it ends");
    assert_eq!(status.code(), Some(1));
    let mut told = String::new();
    watching.0.stderr.take().expect("piped").read_to_string(&mut told).expect("text");
    assert!(
        told.starts_with("turnwire: nothing answers at") && told.lines().count() == 1,
        "{told}"
    );
}

#[test]
fn once_is_one_frame_in_text() {
    // given
    let relay = Relay::start();
    let mut call = Call::new(&relay);
    let watching = top(&relay, &["--once", "--interval", "1"]);
    let shown = thread::spawn(move || run(watching));
    // when, whenever it looks
    let mut talks = 0;
    while !shown.is_finished() {
        call.talk();
        talks += 1;
        thread::sleep(Duration::from_millis(150));
    }
    // then
    let (code, text, error) = shown.join().expect("it ran");
    assert_eq!((code, error.as_str()), (Some(0), ""), "{text}");
    assert!(text.starts_with(concat!(
        "turnwire ",
        env!("CARGO_PKG_VERSION"),
        "  tier socket  up "
    )));
    for start in [
        "holds    allocations 1/200, channels 1/200",
        "CONTROL  cpu ",
        "WORKER CORE CPU%",
        "w0 ",
        "s0 ",
    ] {
        assert!(text.lines().any(|line| line.starts_with(start)), "{start}: {text}");
    }
    let socket = text.lines().find(|line| line.starts_with("socket ")).expect("a tier");
    let rate: f64 =
        socket.split_ascii_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a rate");
    assert!(rate > 5.0 && rate <= f64::from(ROUNDS * talks), "{socket}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(!text.contains('\x1b'), "no terminal, no sequences");
}

#[test]
fn on_a_terminal_frames_are_redrawn_and_the_terminal_is_given_back() {
    // given a terminal, which script(1) makes
    let relay = Relay::start();
    let path = std::env::temp_dir().join(format!("turnwire-top-{}", std::process::id()));
    // which ends it once two frames are there
    let inner = format!(
        "stty cols 100 rows 12; {} top --admin {} --interval 0.2 & n=0; \
         until [ $n -ge 100 ] || [ \"$(grep -ao 'Hturnwire [0-9]' {} | wc -l)\" -ge 2 ]; do \
         n=$((n+1)); sleep 0.1; done; kill -INT $!; wait $!; echo ended $?",
        env!("CARGO_BIN_EXE_turnwire"),
        relay.admin,
        path.display()
    );
    let mut command = std::process::Command::new("script");
    command.args(["-q", "-f", "-c", &inner]).arg(&path);
    // when
    let (code, _, error) = run(command);
    assert_eq!(code, Some(0), "{error}");
    // then
    let text = std::fs::read_to_string(&path).expect("the session");
    std::fs::remove_file(&path).expect("removed");
    let frames = text.matches("\x1b[Hturnwire ").count();
    assert!(frames >= 2, "{frames} frames in {text:?}");
    let (before, after) = text.split_once("\x1b[?25h\x1b[?1049l").expect("given back");
    assert!(before.contains("\x1b[?1049h\x1b[?25l"), "{text:?}");
    assert!(after.contains("ended 0"), "{text:?}");
    assert!(
        before.contains("lines more: --only or --once shows them"),
        "12 lines are too few: {text:?}"
    );
}

#[test]
fn what_cannot_be_watched_is_told_with_what_to_do() {
    // given a port where nobody listens
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let nowhere = listener.local_addr().expect("bound").to_string();
    drop(listener);
    // when, then
    for (args, expected) in [
        (&["--admin", &nowhere][..], "turnwire: nothing answers at 127.0.0.1:"),
        (&["--admin", "off", "--json"], "turnwire: with --admin off a relay tells nothing"),
        (&["--admin", "nonsense", "--once"], "turnwire: --admin: \"nonsense\" is no ADDR:PORT"),
    ] {
        let (code, out, error) = run_with(&[&["top"], args].concat());
        assert_eq!((code, out.as_str()), (Some(1), ""), "{args:?}");
        assert!(error.starts_with(expected) && error.lines().count() == 1, "{error}");
    }
    let (code, _, error) = run_with(&["top", "--interval", "0"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("seconds from 0.1 to 3600"), "{error}");
}
