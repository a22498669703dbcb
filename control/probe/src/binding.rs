//! One Binding request and its response.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use dial::{Link, Received};
use turn::attribute::ChangeRequest;
use turn::message::{Builder, Class, Message, Method, TransactionId};

/// When a request is sent again; the last is when to give up. In milliseconds from the start.
const SCHEDULE_MS: [u64; 5] = [250, 750, 1500, 2500, 4000];
/// The same where silence is what is expected of most NATs.
const SHORT_MS: [u64; 3] = [300, 800, 1500];

/// A Binding request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ask {
    /// CHANGE-REQUEST.
    pub(crate) change: ChangeRequest,
    /// RESPONSE-PORT.
    pub(crate) response_port: Option<u16>,
}

/// What a response said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) mapped: SocketAddr,
    pub(crate) other: Option<SocketAddr>,
}

/// The request with a transaction of its own.
pub(crate) fn request(ask: Ask) -> (TransactionId, Vec<u8>) {
    let mut id = [0; 12];
    // Without randomness of the operating system's nothing on this host works.
    getrandom::fill(&mut id).expect("the operating system has randomness");
    let id = TransactionId(id);
    let mut bytes = Vec::new();
    let mut builder = Builder::new(&mut bytes, Class::Request, Method::BINDING, id);
    if ask.change != ChangeRequest::default() {
        builder.change_request(ask.change);
    }
    if let Some(port) = ask.response_port {
        builder.response_port(port);
    }
    (id, bytes)
}

/// The response in `bytes`, if it is one to this transaction; an error response in words.
fn read(bytes: &[u8], id: TransactionId) -> Option<Result<Answer, String>> {
    let message = Message::parse(bytes).ok().filter(|message| message.transaction() == id)?;
    Some(match message.class() {
        Class::Success => match message.xor_mapped_address() {
            Ok(Some(mapped)) => {
                Ok(Answer { mapped, other: message.other_address().ok().flatten() })
            }
            _ => Err("a Binding success without XOR-MAPPED-ADDRESS".into()),
        },
        Class::Error => match message.error_code() {
            Ok(Some(error)) => Err(error.code.to_string()),
            _ => Err("an error response without ERROR-CODE".into()),
        },
        _ => return None,
    })
}

/// Asks for the mapped address by a link; with the round trip of the request that was answered.
pub(crate) fn by_link(link: &mut Link, stream: bool) -> Result<(SocketAddr, Duration), String> {
    let (id, bytes) = request(Ask::default());
    let start = Instant::now();
    for (attempt, at) in SCHEDULE_MS.into_iter().enumerate() {
        let sent = Instant::now();
        if attempt == 0 || !stream {
            link.send(&bytes).map_err(|error| error.to_string())?;
        }
        let until = start + Duration::from_millis(at);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match link.receive(left).map_err(|error| error.to_string())? {
                Received::Message(bytes) => {
                    if let Some(answer) = read(&bytes, id) {
                        let since = if stream { start } else { sent };
                        return answer.map(|answer| (answer.mapped, since.elapsed()));
                    }
                }
                Received::Foreign(_) => return Err("it does not speak STUN there".into()),
                Received::Closed => return Err("it closed the connection".into()),
                Received::Nothing => break,
            }
        }
    }
    Err("no answer to Binding requests".into())
}

/// Asks by a socket; `None` is silence. Where most NATs leave silence, `patient` is false.
pub(crate) fn by_socket(
    socket: &UdpSocket,
    to: SocketAddr,
    ask: Ask,
    patient: bool,
) -> Result<Option<Answer>, String> {
    let (id, bytes) = request(ask);
    let schedule: &[u64] = if patient { &SCHEDULE_MS } else { &SHORT_MS };
    let start = Instant::now();
    for at in schedule {
        // An unreachable address is as silent as one that does not answer.
        let _ = socket.send_to(&bytes, to);
        if let Some(answer) = await_answer(socket, id, start + Duration::from_millis(*at))? {
            return answer.map(Some);
        }
    }
    Ok(None)
}

fn await_answer(
    socket: &UdpSocket,
    id: TransactionId,
    until: Instant,
) -> Result<Option<Result<Answer, String>>, String> {
    let mut buffer = [0; 2048];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        socket.set_read_timeout(Some(left)).map_err(|error| error.to_string())?;
        let Ok((len, _)) = socket.recv_from(&mut buffer) else { continue };
        if let Some(answer) = read(&buffer[..len], id) {
            return Ok(Some(answer));
        }
    }
}

/// Whether a datagram with these bytes comes within `limit`.
pub(crate) fn arrives(socket: &UdpSocket, bytes: &[u8], limit: Duration) -> bool {
    let until = Instant::now() + limit;
    let mut buffer = [0; 2048];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || socket.set_read_timeout(Some(left)).is_err() {
            return false;
        }
        if let Ok((len, _)) = socket.recv_from(&mut buffer)
            && buffer[..len] == *bytes
        {
            return true;
        }
    }
}

/// Whether the response to `id` comes within `limit`, to whichever socket it was asked for.
pub(crate) fn answer_arrives(socket: &UdpSocket, id: TransactionId, limit: Duration) -> bool {
    matches!(await_answer(socket, id, Instant::now() + limit), Ok(Some(_)))
}
