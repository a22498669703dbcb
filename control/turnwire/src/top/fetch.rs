//! Asks the admin server for `/metrics`, with a limit on time and bytes.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};

use super::scrape::Scrape;
use crate::sys::monotonic;

/// Bytes of an answer: a host of many cores has a tenth of it.
const ANSWER_MAX: usize = 16 << 20;
/// How long an answer may take. The control thread has a second.
const TIME_MAX: Duration = Duration::from_secs(3);
/// Headers of an answer.
const HEADERS_MAX: usize = 64;

/// A reading of the metrics at `admin`, an address and a port.
///
/// # Errors
/// Nothing answers there, or what answers is not Turnwire's: in one line, with what to do.
pub fn scrape(admin: &str) -> anyhow::Result<Scrape> {
    let answer = ask(admin)?;
    let body = body(&answer, admin)?;
    let other = "give --admin the address that turnwire serve has in its --admin";
    let scrape = Scrape::parse(body)
        .map_err(|wrong| anyhow!("http://{admin}/metrics are no metrics, {wrong}: {other}"))?;
    if scrape.sum("turnwire_build_info", &[]).is_none() {
        bail!("http://{admin}/metrics are metrics, but not Turnwire's: {other}");
    }
    Ok(scrape)
}

fn ask(admin: &str) -> anyhow::Result<Vec<u8>> {
    if admin == "off" {
        bail!(
            "with --admin off a relay tells nothing: start it with --admin ADDR:PORT, and give that"
        );
    }
    let addresses: Vec<_> = match admin.to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(error) => bail!("--admin: {admin:?} is no ADDR:PORT, such as 127.0.0.1:9641: {error}"),
    };
    let mut refused = anyhow!("--admin: {admin} has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, TIME_MAX) {
            Ok(stream) => {
                return talk(stream, admin)
                    .with_context(|| {
                        format!(
                            "{address} accepts, but does not answer as an admin server; is it one?"
                        )
                    })
                    .map_err(|error| anyhow!("{error:#}"));
            }
            Err(error) => {
                refused = anyhow!(
                    "nothing answers at {address} ({error}): is the relay running, and not with \
                     --admin off? Give --admin the address that it logs as its admin server's"
                );
            }
        }
    }
    Err(refused)
}

/// In HTTP/1.0, which has no answers in pieces.
fn talk(mut stream: TcpStream, host: &str) -> io::Result<Vec<u8>> {
    let deadline = monotonic() + TIME_MAX;
    stream.set_write_timeout(Some(TIME_MAX))?;
    stream.write_all(format!("GET /metrics HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes())?;
    let (mut answer, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let left = deadline.saturating_sub(monotonic());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it took more than 3 s"));
        }
        stream.set_read_timeout(Some(left))?;
        let read = match stream.read(&mut chunk) {
            Ok(0) => return Ok(answer),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        answer.extend_from_slice(&chunk[..read]);
        if answer.len() > ANSWER_MAX {
            return Err(io::Error::other("it is longer than 16 MiB"));
        }
    }
}

/// The body of an answer that is whole and good.
fn body<'a>(answer: &'a [u8], admin: &str) -> anyhow::Result<&'a str> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(start)) = head.parse(answer) else {
        bail!("{admin} does not speak HTTP: give --admin the address of Turnwire's admin server");
    };
    let body = std::str::from_utf8(&answer[start..])
        .map_err(|_| anyhow!("http://{admin}/metrics is no text: is it Turnwire's?"))?;
    let status = head.code.unwrap_or(0);
    if status != 200 {
        let why: String = body.lines().next().unwrap_or("").chars().take(200).collect();
        let what = match status {
            503 => "the relay is there, but has no time to answer",
            _ => "is it Turnwire's admin server?",
        };
        bail!("http://{admin}/metrics answers {status} {why:?}: {what}");
    }
    let mut lengths =
        head.headers.iter().filter(|one| one.name.eq_ignore_ascii_case("content-length"));
    let length = lengths.next().and_then(|one| std::str::from_utf8(one.value).ok()?.parse().ok());
    if length.is_some_and(|length: usize| length > body.len()) {
        bail!("http://{admin}/metrics ended before its end: try again");
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    use super::*;

    /// What is said of a server that answers so to one request.
    fn told(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        let admin = listener.local_addr().expect("bound").to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 1024];
            let read = stream.read(&mut request).expect("a request");
            assert!(request[..read].starts_with(b"GET /metrics HTTP/1.0\r\n"));
            stream.write_all(answer).expect("written");
        });
        let told = match scrape(&admin) {
            Ok(scrape) => format!("{:?}", scrape.sum("turnwire_build_info", &[])),
            Err(error) => format!("{error:#}").replace(&admin, "HERE"),
        };
        server.join().expect("served");
        told
    }

    #[test]
    fn what_is_not_turnwire_is_told_in_one_line_with_what_to_do() {
        let give = "give --admin the address that turnwire serve has in its --admin";
        for (answer, expected) in [
            (&b"HTTP/1.1 200 OK\r\n\r\nturnwire_build_info{tier=\"xdp\"} 1\n"[..], "Some(1.0)".to_owned()),
            (b"HTTP/1.1 200 OK\r\n\r\nup 1\n", format!("http://HERE/metrics are metrics, but not Turnwire's: {give}")),
            (b"HTTP/1.1 200 OK\r\n\r\n<html>\n", format!("http://HERE/metrics are no metrics, line 1: a sample has a value: {give}")),
            (b"HTTP/1.1 404 Not Found\r\n\r\nno\n", "http://HERE/metrics answers 404 \"no\": is it Turnwire's admin server?".to_owned()),
            (b"HTTP/1.1 503 Busy\r\n\r\nlate\n", "http://HERE/metrics answers 503 \"late\": the relay is there, but has no time to answer".to_owned()),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nup 1\n", "http://HERE/metrics ended before its end: try again".to_owned()),
            (b"SSH-2.0-OpenSSH\r\n", "HERE does not speak HTTP: give --admin the address of Turnwire's admin server".to_owned()),
            (b"", "HERE does not speak HTTP: give --admin the address of Turnwire's admin server".to_owned()),
            (b"HTTP/1.1 200 OK\r\n\r\n\xff\xfe", "http://HERE/metrics is no text: is it Turnwire's?".to_owned()),
        ] {
            assert_eq!(told(answer), expected);
        }
    }

    #[test]
    fn where_nothing_answers_the_address_is_told() {
        // given a port that was free a moment ago
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        let admin = listener.local_addr().expect("bound").to_string();
        drop(listener);
        // when, then
        let told = scrape(&admin).expect_err("nobody is there").to_string();
        assert!(
            told.starts_with(&format!("nothing answers at {admin} (Connection refused")),
            "{told}"
        );
        assert!(told.contains("--admin off?") && told.lines().count() == 1, "{told}");
        let told = scrape("off").expect_err("off").to_string();
        assert!(told.starts_with("with --admin off a relay tells nothing"), "{told}");
        let told = scrape("127.0.0.1").expect_err("no port").to_string();
        assert!(told.starts_with("--admin: \"127.0.0.1\" is no ADDR:PORT"), "{told}");
    }
}
