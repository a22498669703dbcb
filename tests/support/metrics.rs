//! Reading a relay's metrics page (the Prometheus text format).

use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
use std::io::{Read, Write};
use std::net::SocketAddr;

use anyhow::{Context, Result, bail};

use crate::lab::{Host, Lab};
use crate::wait::SOON;

/// Times that a relay may say that it is too busy; it waits a second each time.
const BUSY_MAX: usize = 30;

/// One reading of all metrics.
#[derive(Clone, Debug)]
pub struct Metrics(String);

impl Metrics {
    /// Asks the admin server at `admin`, from the relay's own host.
    ///
    /// # Errors
    /// No answer, or another than 200.
    pub fn read(lab: &Lab, admin: SocketAddr) -> Result<Self> {
        Ok(Self(get(lab, admin, "/metrics")?))
    }

    /// Every sample that is not zero, for a failure's message.
    pub fn counted(&self) -> String {
        let samples = self.0.lines().filter(|line| !line.starts_with('#') && !line.ends_with(" 0"));
        samples.collect::<Vec<&str>>().join("\n")
    }

    /// The sum of all samples of `name` that carry every one of `labels`; zero if there are none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let wanted: Vec<String> =
            labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
        let samples = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.split_once('}')?,
                None => ("", rest.strip_prefix(' ')?),
            };
            let has = |wanted: &String| labels.split(',').any(|label| label.trim() == wanted);
            wanted.iter().all(has).then(|| value.trim().parse::<f64>().ok())?
        });
        samples.sum::<f64>() as u64
    }

    /// The page as it is.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// A GET request to the admin server; gives the body. Asks again for a while where the relay says
/// that it has no time (503) or gives up on us before we have asked, as on a machine with too much to do.
///
/// # Errors
/// No answer, or another than 200.
pub fn get(lab: &Lab, admin: SocketAddr, path: &str) -> Result<String> {
    for _ in 0..BUSY_MAX {
        if let Some(body) = ask(lab, admin, path)? {
            return Ok(body);
        }
    }
    bail!("GET {path}: no time for it, {BUSY_MAX} times");
}

/// The body, if there was time for it.
fn ask(lab: &Lab, admin: SocketAddr, path: &str) -> Result<Option<String>> {
    let mut stream = lab.tcp(Host::Relay, admin)?;
    stream.set_read_timeout(Some(SOON))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    let asked = stream.write_all(request.as_bytes());
    match asked.and_then(|()| stream.read_to_string(&mut answer)) {
        // whoever asks nothing for two seconds is hung up on
        Ok(0) => return Ok(None),
        Err(error) if matches!(error.kind(), ConnectionReset | BrokenPipe) => return Ok(None),
        read => read.context("asking the admin server")?,
    };
    let (head, body) = answer.split_once("\r\n\r\n").context("an HTTP answer has a head")?;
    let status = head.lines().next().unwrap_or_default();
    if status.contains(" 503 ") {
        return Ok(None);
    }
    if !status.contains(" 200 ") {
        bail!("GET {path}: {status}");
    }
    Ok(Some(unchunked(head, body)))
}

/// Undoes chunked transfer coding, if there is any.
fn unchunked(head: &str, body: &str) -> String {
    if !head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return body.into();
    }
    let (mut whole, mut rest) = (String::new(), body);
    while let Some((length, chunk)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length.trim(), 16).unwrap_or(0);
        let Some(chunk_text) = chunk.get(..length).filter(|text| !text.is_empty()) else { break };
        whole.push_str(chunk_text);
        rest = chunk.get(length + 2..).unwrap_or_default();
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_over_the_labels_that_were_not_asked_for() {
        let page = "# TYPE packets counter\npackets{tier=\"xdp\",worker=\"0\"} 3\n\
                    packets{tier=\"xdp\",worker=\"1\"} 4\npackets{tier=\"socket\"} 5\nup 1\n";
        let metrics = Metrics(page.into());
        assert_eq!(metrics.sum("packets", &[("tier", "xdp")]), 7);
        assert_eq!(metrics.sum("packets", &[]), 12);
        assert_eq!(metrics.sum("up", &[]), 1);
        assert_eq!(metrics.sum("pack", &[]), 0);
    }

    #[test]
    fn a_chunked_body_is_joined() {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked";
        assert_eq!(unchunked(head, "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), "abcde");
        assert_eq!(unchunked("HTTP/1.1 200 OK", "abc"), "abc");
    }
}
