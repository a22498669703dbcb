//! Clients that do what they should not: bounded, closed, counted by name, and no byte sent.

use crate::kit::*;
use crate::rig::{Rig, Told};
use dataplane::SessionTimers;
use dataplane::session::Ending;
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(300);

#[test]
fn what_is_not_stun_is_closed_at_once_without_a_byte() {
    let mut rig = start(|_| ());
    let mut too_long = stun(0);
    too_long[2..4].copy_from_slice(&[0xFF, 0xFC]);
    let mut odd = stun(0);
    odd[3] = 3;
    let mut foreign = stun(0);
    foreign[4] = 0;
    let cases: [(&[u8], Ending); 8] = [
        (b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n", Ending::NotStun),
        (b"POST / HTTP/1.1\r\n\r\n", Ending::NotStun),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Ending::NotStun),
        (b"\x40\x00\x00\x04abcd", Ending::NotStun),
        (b"\xff", Ending::NotStun),
        (&foreign, Ending::NotStun),
        (&odd, Ending::BadLength),
        (&too_long, Ending::TooLong),
    ];
    for (bytes, ending) in cases {
        let before = rig.session().ended(ending);
        let mut stream = connect(rig.tcp());
        stream.write_all(bytes).unwrap();
        assert_closed_without_a_byte(&mut stream);
        rig.until_ended(ending, before + 1);
    }
    // and nobody was told of them
    assert_eq!(rig.told(1, Duration::from_millis(20)), []);
    assert_eq!(rig.session().open, [0; 4]);
}

#[test]
fn garbage_behind_good_messages_ends_the_connection_after_them() {
    let mut rig = start(|_| ());
    let mut stream = connect(rig.tcp());
    stream.write_all(&[stun(4), stun(8), b"PUT / HTTP/1.1".to_vec()].concat()).unwrap();
    assert_closed_without_a_byte(&mut stream);
    let client = crate::kit::tcp_client(&stream);
    let told = rig.told(3, PATIENCE);
    let [Told::Client { .. }, Told::Client { bytes, .. }, Told::Gone { client: gone, .. }] =
        &told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!((bytes, *gone), (&stun(8), client));
}

#[test]
fn silence_and_unfinished_messages_run_out_of_time_by_name() {
    type Case = (Ending, fn(&mut SessionTimers), fn(&mut Rig, &mut TcpStream));
    // each with its own timer short only: a busy machine takes its time with all else
    let cases: [Case; 4] = [
        // it says nothing
        (Ending::HandshakeTimeout, |timers| timers.handshake = SHORT, |_, _| ()),
        // it begins
        (
            Ending::FirstMessageTimeout,
            |timers| timers.first_message = SHORT,
            |_, stream| stream.write_all(&stun(4)[..10]).unwrap(),
        ),
        // it lies about a length
        (
            Ending::MessageTimeout,
            |timers| timers.message = SHORT,
            |rig, stream| {
                introduce(rig, stream);
                stream.write_all(&[0x40, 0, 0xFF, 0xFF, 1, 2, 3]).unwrap();
            },
        ),
        // it goes silent
        (
            Ending::Idle,
            |timers| timers.idle = SHORT,
            |rig, stream| {
                introduce(rig, stream);
            },
        ),
    ];
    for (ending, shorten, begin) in cases {
        let mut rig = start(|sessions| shorten(&mut sessions.timers));
        let mut stream = connect(rig.tcp());
        begin(&mut rig, &mut stream);
        assert_closed_without_a_byte(&mut stream);
        rig.until_ended(ending, 1);
    }
}

#[test]
fn one_byte_at_a_time_does_not_outlast_the_time_for_a_message() {
    let mut rig = start(|sessions| sessions.timers.message = 2 * SHORT);
    let mut stream = connect(rig.tcp());
    introduce(&mut rig, &mut stream);
    let mut sent = 0;
    for byte in stun(4 * 100) {
        if stream.write_all(&[byte]).is_err() {
            break;
        }
        sent += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(sent < 420, "{sent}");
    rig.until_ended(Ending::MessageTimeout, 1);
}

#[test]
fn a_busy_stream_that_always_ends_in_a_part_of_a_message_lives_on() {
    // given a limit that a busy machine keeps, and more time than that
    const LIMIT: Duration = Duration::from_millis(1500);
    let mut rig = start(|sessions| sessions.timers.message = LIMIT);
    let (mut stream, peer) = (connect(rig.tcp()), peer());
    let client = introduce(&mut rig, &mut stream);
    rig.bind_channel(client, 0x4000, peer.local_addr().unwrap());
    let frame = channel_data(0x4000, &[7; 1000], 0);
    stream.write_all(&frame[..500]).unwrap();
    for _ in 0..100 {
        stream.write_all(&[&frame[500..], &frame[..500]].concat()).unwrap();
        assert_eq!(receive(&peer).0.len(), 1000);
        std::thread::sleep(LIMIT / 60);
    }
    assert_eq!(rig.session().ended(Ending::MessageTimeout), 0);
}

#[test]
fn a_client_that_never_reads_loses_datagrams_then_its_connection() {
    let mut rig = start(|sessions| {
        sessions.timers.write_stall = 4 * SHORT;
        sessions.limits.queue_bytes = 64 << 10;
    });
    let (mut stream, peer) = (connect(rig.tcp()), peer());
    let client = introduce(&mut rig, &mut stream);
    let route = rig.bind_channel(client, 0x4000, peer.local_addr().unwrap());
    let begun = Instant::now();
    // no more than the kernel's buffers and the queue can be on its way
    while rig.session().ended(Ending::WriteStalled) == 0 {
        for _ in 0..32 {
            peer.send_to(&[7; 1200], route.relay).unwrap();
        }
        std::thread::sleep(Duration::from_millis(1));
        assert!(begun.elapsed() < PATIENCE, "{:#?}", rig.session());
    }
    let session = rig.session();
    println!(
        "{} queued, {} dropped, {:?}",
        session.frames_out,
        session.queue_drops,
        begun.elapsed()
    );
    assert!(session.queue_drops > 0);
    let refused = rig.plane.stats().workers[SESSION].refused(wire::Reason::SocketFull);
    assert!(refused >= session.queue_drops);
    assert_eq!(rig.told(1, PATIENCE)[0], Told::Gone { worker: SESSION, client });
}

#[test]
fn messages_get_past_a_queue_that_is_full_of_datagrams() {
    let mut rig = start(|sessions| sessions.limits.queue_bytes = 64 << 10);
    let (mut stream, peer) = (connect(rig.tcp()), peer());
    let client = introduce(&mut rig, &mut stream);
    let route = rig.bind_channel(client, 0x4000, peer.local_addr().unwrap());
    while rig.session().queue_drops == 0 {
        for _ in 0..32 {
            peer.send_to(&[7; 1200], route.relay).unwrap();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    rig.plane.to_client(SESSION, client, &stun(0));
    rig.plane.flush();
    rig.until("the answer is queued", |stats| stats.workers[SESSION].sent_to_clients == 1);
    // then it comes, behind whole frames only
    loop {
        let head = read(&mut stream, 4);
        if head == [0, 1, 0, 0] {
            return assert_eq!(read(&mut stream, 16), stun(0)[4..]);
        }
        assert_eq!(head, [0x40, 0, 0x04, 0xB0]);
        assert_eq!(read(&mut stream, 1200), [7; 1200]);
    }
}

#[test]
fn limits_of_connections_refuse_by_name_and_what_ends_makes_room() {
    let mut rig = start(|sessions| {
        sessions.limits.connections_per_source = 3;
        sessions.limits.connections_per_thread = 100;
    });
    let mut streams: Vec<_> = (0..3).map(|_| connect(rig.tcp())).collect();
    for stream in &mut streams {
        introduce(&mut rig, stream);
    }
    assert_closed_without_a_byte(&mut connect(rig.tcp()));
    rig.until_ended(Ending::SourceFull, 1);
    drop(streams.pop());
    rig.until_ended(Ending::Client, 1);
    assert!(matches!(rig.told(1, PATIENCE)[..], [Told::Gone { .. }]));
    let mut late = connect(rig.tcp());
    introduce(&mut rig, &mut late);
    let mut rig = start(|sessions| sessions.limits.connections = 1);
    let mut only = connect(rig.tcp());
    introduce(&mut rig, &mut only);
    assert_closed_without_a_byte(&mut connect(rig.tcp()));
    rig.until_ended(Ending::AllFull, 1);
}

#[test]
fn a_control_thread_that_is_busy_loses_no_message_of_a_stream() {
    let mut rig = start(|_| ());
    let mut stream = connect(rig.tcp());
    introduce(&mut rig, &mut stream);
    // given more than its ring holds, by far
    let sender = std::thread::spawn(move || {
        for at in 0..20_000_u32 {
            let mut message = stun(4);
            message[20..].copy_from_slice(&at.to_be_bytes());
            stream.write_all(&message).unwrap();
        }
        stream
    });
    std::thread::sleep(Duration::from_millis(200));
    // when it looks at last, then every one comes, in order
    let mut next = 0_u32;
    while next < 20_000 {
        let told = rig.told(1, PATIENCE);
        assert!(!told.is_empty(), "nothing after {next}");
        for told in told {
            let Told::Client { bytes, .. } = told else { panic!("{told:?}") };
            assert_eq!(bytes[20..], next.to_be_bytes());
            next += 1;
        }
    }
    sender.join().unwrap();
}
