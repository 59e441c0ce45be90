//! One set of name servers, and how they are asked: over UDP, and over TCP where the answer is too long for that.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::names::candidates;
use crate::{Failure, RESOLV_CONF};

/// One question, before it is asked again. The system's 5 s suit a person who waits; our callers ask again anyway.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How often all servers are asked, where `resolv.conf` does not say; as the C library does.
const TRIES: u32 = 2;
/// The size of an answer that no common network breaks into pieces (DNS Flag Day 2020).
const MAX_UDP: u16 = 1232;
const PORT: u16 = 53;

/// What was made of `resolv.conf`.
#[derive(Debug)]
pub(crate) struct Client {
    /// The file it was made of.
    pub(crate) text: Vec<u8>,
    servers: Vec<SocketAddr>,
    search: Vec<Name>,
    ndots: usize,
    timeout: Duration,
    tries: u32,
}

/// What was answered to one name.
#[derive(Debug, Default)]
pub struct Records {
    /// The answer itself, with the CNAME records that led to it.
    pub answers: Vec<Record>,
    /// What was sent along: the addresses of hosts that are named in the answer.
    pub additionals: Vec<Record>,
}

impl Client {
    pub(crate) fn new(text: Vec<u8>, servers: &[SocketAddr]) -> Result<Self, Failure> {
        if !servers.is_empty() {
            let (servers, search) = (servers.to_vec(), Vec::new());
            return Ok(Self { text, servers, search, ndots: 0, timeout: TIMEOUT, tries: TRIES });
        }
        let unusable = |why: String| Failure::Failed(format!("{RESOLV_CONF}: {why}"));
        let config = resolv_conf::Config::parse(&text).map_err(|error| unusable(error.to_string()))?;
        let servers: Vec<_> =
            config.nameservers.iter().map(|ip| SocketAddr::new(IpAddr::from(ip), PORT)).collect();
        if servers.is_empty() {
            return Err(unusable("it names no name server".to_owned()));
        }
        let search = config.get_last_search_or_domain().filter_map(|domain| Name::from_utf8(domain).ok());
        Ok(Self {
            servers,
            search: search.collect(),
            ndots: usize::try_from(config.ndots).unwrap_or(usize::MAX),
            timeout: Duration::from_secs(config.timeout.into()).clamp(Duration::from_secs(1), TIMEOUT),
            tries: config.attempts.max(1),
            text,
        })
    }

    /// Asks for a name as it may be meant, one after the other, until there is an answer.
    pub(crate) async fn search<F: Future<Output = Result<Records, Failure>>>(
        &self,
        host: &str,
        ask: impl Fn(Name) -> F,
    ) -> Result<Records, Failure> {
        let name = Name::from_str_relaxed(host).map_err(|error| Failure::Failed(error.to_string()))?;
        let mut failure = Failure::NotFound;
        for name in candidates(name, &self.search, self.ndots) {
            match ask(name).await {
                Err(Failure::NotFound) => {}
                // Who does not answer this question would not answer the next one either.
                outcome @ (Ok(_) | Err(Failure::Timeout)) => return outcome,
                // As the C library does: a search domain that is broken does not hide the others.
                Err(why) => failure = why,
            }
        }
        Err(failure)
    }

    pub(crate) async fn ask_both(&self, name: Name) -> Result<Records, Failure> {
        let (v4, v6) = tokio::join!(self.ask(name.clone(), RecordType::A), self.ask(name, RecordType::AAAA));
        match (v4, v6) {
            (Ok(mut records), Ok(more)) => {
                records.answers.extend(more.answers);
                Ok(records)
            }
            // Many networks have trouble with one family only.
            (Ok(records), Err(_)) | (Err(_), Ok(records)) => Ok(records),
            (Err(Failure::NotFound), Err(why)) | (Err(why), Err(_)) => Err(why),
        }
    }

    /// Asks one server after the other, and all of them again. What a server says of the name itself holds; that it
    /// cannot tell, or says nothing, does not.
    pub(crate) async fn ask(&self, name: Name, kind: RecordType) -> Result<Records, Failure> {
        let mut failure = Failure::Timeout;
        for _ in 0..self.tries {
            for server in &self.servers {
                let question = question(name.clone(), kind);
                match timeout(self.timeout, exchange(*server, &question)).await {
                    Ok(Ok(answer)) => match records(answer, kind) {
                        Err(why @ Failure::Failed(_)) => failure = why,
                        verdict => return verdict,
                    },
                    Ok(Err(error)) => failure = Failure::Failed(error.to_string()),
                    Err(_) => {}
                }
            }
        }
        Err(failure)
    }
}

fn records(answer: Message, kind: RecordType) -> Result<Records, Failure> {
    match answer.metadata.response_code {
        // A chain of CNAME records may end in nothing.
        ResponseCode::NoError if answer.answers.iter().any(|record| record.record_type() == kind) => {
            Ok(Records { answers: answer.answers, additionals: answer.additionals })
        }
        ResponseCode::NoError | ResponseCode::NXDomain => Err(Failure::NotFound),
        code => Err(Failure::Failed(format!("the name server answered: {code}"))),
    }
}

fn question(name: Name, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, kind));
    let mut edns = Edns::new();
    edns.set_max_payload(MAX_UDP);
    message.set_edns(edns);
    message
}

async fn exchange(server: SocketAddr, question: &Message) -> io::Result<Message> {
    let bytes = question.to_vec().map_err(io::Error::other)?;
    let answer = over_udp(server, question, &bytes).await?;
    if answer.metadata.truncation { over_tcp(server, question, &bytes).await } else { Ok(answer) }
}

async fn over_udp(server: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Message> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // A port of its own for each question: who does not see it cannot answer it.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = [0; MAX_UDP as usize];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(answer) = answer_to(question, &buffer[..length]) {
            return Ok(answer);
        }
    }
}

async fn over_tcp(server: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut buffer).await?;
    answer_to(question, &buffer).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, "the name server answered something else than asked")
    })
}

/// The message, if it answers this question (RFC 5452 section 9.1).
fn answer_to(question: &Message, bytes: &[u8]) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let is_ours = answer.metadata.message_type == MessageType::Response
        && answer.metadata.id == question.metadata.id
        && answer.queries == question.queries;
    is_ours.then_some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_list_of_a_pod_is_read() {
        let text =
            b"search shop.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n";
        let client = Client::new(text.to_vec(), &[]).unwrap();
        assert_eq!(client.servers, ["10.96.0.10:53".parse().unwrap()]);
        assert_eq!((client.ndots, client.search.len(), client.timeout), (5, 2, TIMEOUT));
        let other = Client::new(text.to_vec(), &["127.0.0.1:53".parse().unwrap()]).unwrap();
        assert_eq!((other.ndots, other.search.len()), (0, 0), "names are complete for other servers");
        assert!(Client::new(b"search x\n".to_vec(), &[]).is_err(), "no name server");
    }

    #[test]
    fn only_an_answer_to_the_question_is_one() {
        let name = |text| Name::from_ascii(text).unwrap();
        let asked = question(name("shop.test."), RecordType::A);
        let answer = |change: fn(&mut Message)| {
            let mut answer = asked.clone().into_response();
            change(&mut answer);
            answer_to(&asked, &answer.to_vec().unwrap()).is_some()
        };
        assert!(answer(|_| {}));
        assert!(!answer(|answer| answer.metadata.id ^= 1));
        assert!(!answer(|answer| answer.metadata.message_type = MessageType::Query));
        assert!(!answer(|answer| {
            answer.queries.clear();
            answer.add_query(Query::query(Name::from_ascii("evil.test.").unwrap(), RecordType::A));
        }));
        assert!(answer_to(&asked, b"no message").is_none());
    }

    /// Each server says its part; what the client makes of it.
    async fn asked(codes: &[Option<ResponseCode>]) -> Result<Records, Failure> {
        let mut servers = Vec::new();
        for code in codes {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            servers.push(socket.local_addr().unwrap());
            let code = *code;
            tokio::spawn(async move {
                let mut buffer = [0; 512];
                while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                    let Some(code) = code else { continue };
                    let mut answer = Message::from_vec(&buffer[..length]).unwrap().into_response();
                    answer.metadata.response_code = code;
                    socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
                }
            });
        }
        let mut client = Client::new(Vec::new(), &servers).unwrap();
        client.timeout = Duration::from_millis(50);
        client.ask(Name::from_ascii("shop.test.").unwrap(), RecordType::A).await
    }

    #[test]
    fn a_server_that_cannot_tell_makes_way_for_the_next() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let broken = Some(ResponseCode::ServFail);
            assert_eq!(asked(&[broken, Some(ResponseCode::NXDomain)]).await.unwrap_err(), Failure::NotFound);
            assert_eq!(asked(&[None, Some(ResponseCode::NoError)]).await.unwrap_err(), Failure::NotFound);
            assert!(matches!(asked(&[broken, None]).await.unwrap_err(), Failure::Failed(_)));
            assert_eq!(asked(&[None]).await.unwrap_err(), Failure::Timeout);
        });
    }
}
