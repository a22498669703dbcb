//! As much HTTP/1.1 as a few small pages need, with a limit on everything a client can spend:
//! bytes of its request, and time. One request for each connection.
//!
//! A general server would keep connections, and so threads and descriptors, for as long as
//! strangers like; descriptors are what relay ports are made of.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Bytes of a request's head.
const HEAD_MAX: usize = 8 * 1024;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// How long one read or write may wait.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// How many reads a head may take: with `WAIT_MAX`, a bound on the time for all of it.
const READS_MAX: usize = 8;

/// A request's line, which is all that the pages look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET` and the like.
    pub method: String,
    /// The target up to its question mark.
    pub path: String,
    /// What follows the question mark.
    pub query: String,
    /// A page in a browser sent it: it has an Origin.
    pub from_page: bool,
}

impl Request {
    /// The whole number that the query gives for `name`, or `default`.
    ///
    /// # Errors
    /// It gives something else: in words.
    pub fn number(&self, name: &str, default: usize) -> Result<usize, String> {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        match pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next_back() {
            None => Ok(default),
            Some(value) => {
                value.parse().map_err(|_| format!("{name} is not a whole number: {value:?}\n"))
            }
        }
    }
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The media type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
    /// The method that a page is for.
    pub allow: Option<&'static str>,
}

impl Response {
    /// A body of plain text.
    pub fn text(status: u16, body: impl Into<String>) -> Response {
        let content_type = "text/plain; charset=utf-8";
        Response { status, content_type, body: body.into(), allow: None }
    }

    /// The page is there, but for another method.
    pub fn method(allow: &'static str) -> Response {
        Response { allow: Some(allow), ..Response::text(405, format!("only {allow}\n")) }
    }

    /// A body of JSON.
    pub fn json(body: String) -> Response {
        Response { status: 200, content_type: "application/json", body, allow: None }
    }
}

/// Reads one request from `stream`, has `answer` answer it, and closes.
///
/// # Errors
/// The connection fails or is too slow.
pub fn serve(
    stream: &mut TcpStream,
    answer: &mut dyn FnMut(&Request) -> Response,
) -> io::Result<()> {
    stream.set_read_timeout(Some(WAIT_MAX))?;
    stream.set_write_timeout(Some(WAIT_MAX))?;
    let mut head = Vec::with_capacity(1024);
    let (response, with_body) = match read_request(stream, &mut head)? {
        Ok(request) => (answer(&request), request.method != "HEAD"),
        Err(response) => (response, true),
    };
    write_response(stream, &response, with_body)?;
    stream.shutdown(std::net::Shutdown::Write)
}

/// A request, or the response to something that is none.
fn read_request(
    stream: &mut impl Read,
    head: &mut Vec<u8>,
) -> io::Result<Result<Request, Response>> {
    let mut chunk = [0; 1024];
    for _ in 0..READS_MAX {
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&chunk[..read]);
        match parse(head) {
            Ok(Some(request)) => return Ok(Ok(request)),
            Ok(None) if head.len() < HEAD_MAX => {}
            Ok(None) => break,
            Err(response) => return Ok(Err(response)),
        }
    }
    Ok(Err(Response::text(431, "the request's head is too long or comes in too many pieces\n")))
}

/// The request in `head`; `None` while it is incomplete.
fn parse(head: &[u8]) -> Result<Option<Request>, Response> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(head) {
        Ok(httparse::Status::Partial) => Ok(None),
        Ok(httparse::Status::Complete(_)) => {
            let target = parsed.path.unwrap_or("/");
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let mut headers = parsed.headers.iter();
            let from_page = headers.any(|header| header.name.eq_ignore_ascii_case("origin"));
            Ok(Some(Request {
                from_page,
                method: parsed.method.unwrap_or("").to_owned(),
                path: path.to_owned(),
                query: query.to_owned(),
            }))
        }
        Err(error) => Err(Response::text(400, format!("this is not HTTP: {error}\n"))),
    }
}

fn write_response(stream: &mut impl Write, response: &Response, with_body: bool) -> io::Result<()> {
    let reason = match response.status {
        200 => "OK",
        202 => "Accepted",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        422 => "Unprocessable Content",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        _ => "Service Unavailable",
    };
    let allow = response.allow.map(|method| format!("Allow: {method}\r\n")).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{allow}\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n",
        response.status,
        response.content_type,
        response.body.len()
    );
    stream.write_all(head.as_bytes())?;
    if with_body {
        stream.write_all(response.body.as_bytes())?;
    }
    stream.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_in_pieces_is_put_together() {
        let whole = b"GET /allocations?limit=5&offset=7 HTTP/1.1\r\nHost: a\r\n\r\n";
        for cut in 1..whole.len() {
            let (first, second) = whole.split_at(cut);
            let mut head = Vec::new();
            let mut stream = first.chain(second);
            let request = read_request(&mut stream, &mut head).expect("read").expect("a request");
            assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/allocations"));
            assert_eq!(request.number("limit", 1), Ok(5));
            assert_eq!(request.number("offset", 1), Ok(7));
            assert_eq!(request.number("other", 1), Ok(1));
        }
    }

    #[test]
    fn what_is_no_request_is_refused_and_an_endless_one_is_cut() {
        let status = |bytes: &[u8]| {
            let mut head = Vec::new();
            let mut stream = bytes;
            read_request(&mut stream, &mut head).expect("read").err().map(|r| r.status)
        };
        assert_eq!(status(b"\x16\x03\x01\x02\x00\x01"), Some(400));
        let mut endless = b"GET / HTTP/1.1\r\nA: ".to_vec();
        endless.resize(2 * HEAD_MAX, b'a');
        assert_eq!(status(&endless), Some(431));
        let mut head = Vec::new();
        assert!(read_request(&mut &b"GET /"[..], &mut head).is_err());
    }

    #[test]
    fn a_response_tells_its_length_and_closes() {
        let mut written = Vec::new();
        write_response(&mut written, &Response::method("GET"), true).expect("written");
        assert_eq!(
            String::from_utf8(written).expect("text"),
            "HTTP/1.1 405 Method Not Allowed\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: 9\r\nAllow: GET\r\nCache-Control: no-store\r\nConnection: close\r\n\
             \r\nonly GET\n"
        );
    }
}
