//! The admin server over real connections, with a control thread that is one of the test's own.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use mio::{Poll, Token};

use super::*;

/// Asks `address`, and gives status and body.
fn ask(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.write_all(request.as_bytes()).expect("written");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("read");
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    (status, body.expect("a body"))
}

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: turnwire\r\n\r\n"))
}

fn started() -> (SocketAddr, Receiver<Question>, Poll) {
    let poll = Poll::new().expect("a poller");
    let waker = Arc::new(Waker::new(poll.registry(), Token(0)).expect("a waker"));
    let (address, asked) = start((Ipv4Addr::LOCALHOST, 0).into(), waker).expect("started");
    (address, asked, poll)
}

#[test]
fn a_page_that_is_not_there_and_a_method_that_is_not_are_told_apart() {
    let (address, _asked, _poll) = started();
    assert_eq!(get(address, "/").0, 404);
    assert_eq!(ask(address, "POST /metrics HTTP/1.1\r\nHost: a\r\n\r\n").0, 405);
    assert_eq!(ask(address, "hello\r\n\r\n").0, 400);
    assert_eq!(get(address, "/allocations?limit=many").0, 400);
}

#[test]
fn health_is_good_only_while_the_control_thread_answers() {
    // given a control thread that answers once and then no more
    let (address, asked, _poll) = started();
    let control = thread::spawn(move || {
        if let Ok(Question::Health(reply)) = asked.recv() {
            reply.try_send(()).expect("room for one answer");
        }
        asked
    });
    // when, then
    assert_eq!(get(address, "/healthz"), (200, "ok\n".to_owned()));
    let asked = control.join().expect("ended");
    let (status, body) = get(address, "/healthz");
    assert_eq!(status, 503);
    assert!(body.contains("did not answer within 1 s"), "{body}");
    // and when the control thread has ended
    drop(asked);
    assert_eq!(get(address, "/healthz").0, 503);
}

#[test]
fn a_long_listing_is_asked_for_in_pages() {
    // given a control thread with 600 allocations
    let (address, asked, _poll) = started();
    let control = thread::spawn(move || {
        let mut pages = Vec::new();
        while let Ok(Question::Allocations { offset, limit, reply }) = asked.recv() {
            let count = 600_usize.saturating_sub(offset).min(limit);
            let allocations = vec![allocations::tests::one(); count];
            pages.push((offset, limit));
            reply.try_send(Listing { total: 600, allocations }).expect("room for one answer");
            if count < limit || pages.len() == 4 {
                break;
            }
        }
        pages
    });
    // when
    let (status, body) = get(address, "/allocations");
    // then
    assert_eq!(status, 200);
    let value: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(value["allocations"].as_array().map(Vec::len), Some(600));
    assert_eq!(value["total"], 600);
    let pages = control.join().expect("ended");
    assert_eq!(pages, [(0, 256), (256, 256), (512, 256)]);
}

#[test]
fn clients_that_say_nothing_keep_only_threads_of_the_admin_server() {
    // given as many silent clients as there are threads
    let (address, _asked, _poll) = started();
    let silent: Vec<TcpStream> =
        (0..THREADS).map(|_| TcpStream::connect(address).expect("connected")).collect();
    // when another asks
    let (status, _) = get(address, "/");
    // then it is answered once the silent ones have run out of time
    assert_eq!(status, 404);
    drop(silent);
}
