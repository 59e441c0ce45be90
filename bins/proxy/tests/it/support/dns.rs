use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// A name server on a free port of loopback, over UDP and TCP, that says what the test tells it to.
pub(crate) struct Dns {
    pub(crate) address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

/// What it does with a question.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Mood {
    /// Answers; NXDOMAIN for a name that it does not know.
    Well,
    /// Says nothing, as if it were gone.
    Silent,
    /// Answers SERVFAIL.
    Broken,
    /// Cuts off all answers over UDP, so that TCP is needed.
    Terse,
}

struct Zone {
    mood: Mood,
    records: HashMap<String, Vec<Record>>,
    asked: Vec<String>,
}

impl Dns {
    pub(crate) fn start() -> Self {
        let (udp, tcp) = sockets();
        let address = udp.local_addr().unwrap();
        let zone = Zone { mood: Mood::Well, records: HashMap::new(), asked: Vec::new() };
        let zone = Arc::new(Mutex::new(zone));
        let of_udp = Arc::clone(&zone);
        std::thread::spawn(move || {
            let mut question = [0; 4096];
            while let Ok((length, peer)) = udp.recv_from(&mut question) {
                if let Some(answer) = of_udp.lock().unwrap().answer(&question[..length], true) {
                    let _ = udp.send_to(&answer, peer);
                }
            }
        });
        let of_tcp = Arc::clone(&zone);
        std::thread::spawn(move || {
            for stream in tcp.incoming().map_while(Result::ok) {
                let zone = Arc::clone(&of_tcp);
                std::thread::spawn(move || serve_tcp(stream, &zone));
            }
        });
        Self { address, zone }
    }

    /// The YAML of an upstream that asks it, and uses each answer for so many seconds at most.
    pub(crate) fn yaml(&self, max_ttl: u32) -> String {
        format!("dns: {{servers: [\"{}\"], min_ttl: 100ms, max_ttl: {max_ttl}s}}", self.address)
    }

    pub(crate) fn set_mood(&self, mood: Mood) {
        self.zone.lock().unwrap().mood = mood;
    }

    /// Gives a name these addresses, and no others.
    pub(crate) fn set(&self, name: &str, ttl: u32, addresses: &[&str]) {
        let data = |address: &&str| match address.parse().unwrap() {
            IpAddr::V4(ip) => RData::A(A(ip)),
            IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
        };
        self.put(name, ttl, addresses.iter().map(data).collect());
    }

    /// Gives a service these instances: priority, weight, port and target.
    pub(crate) fn set_services(&self, name: &str, ttl: u32, instances: &[(u16, u16, u16, &str)]) {
        let data = |(priority, weight, port, target): &(u16, u16, u16, &str)| {
            RData::SRV(SRV::new(*priority, *weight, *port, Name::from_ascii(target).unwrap()))
        };
        self.put(name, ttl, instances.iter().map(data).collect());
    }

    /// Makes one name another's alias.
    pub(crate) fn set_alias(&self, name: &str, ttl: u32, target: &str) {
        self.put(name, ttl, vec![RData::CNAME(CNAME(Name::from_ascii(target).unwrap()))]);
    }

    /// Has a name not exist.
    pub(crate) fn forget(&self, name: &str) {
        self.zone.lock().unwrap().records.remove(name);
    }

    /// The questions so far: `shop.test. A`.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.zone.lock().unwrap().asked.clone()
    }

    fn put(&self, name: &str, ttl: u32, data: Vec<RData>) {
        let owner = Name::from_ascii(name).unwrap();
        let records = data.into_iter().map(|data| Record::from_rdata(owner.clone(), ttl, data)).collect();
        self.zone.lock().unwrap().records.insert(name.to_owned(), records);
    }
}

/// A UDP and a TCP socket on the same port.
fn sockets() -> (UdpSocket, TcpListener) {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    (0..100)
        .find_map(|_| {
            let udp = UdpSocket::bind(any).ok()?;
            let tcp = TcpListener::bind(udp.local_addr().ok()?).ok()?;
            Some((udp, tcp))
        })
        .expect("some port is free for both")
}

fn serve_tcp(mut stream: TcpStream, zone: &Mutex<Zone>) {
    let mut length = [0; 2];
    while stream.read_exact(&mut length).is_ok() {
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        if stream.read_exact(&mut question).is_err() {
            return;
        }
        let Some(answer) = zone.lock().unwrap().answer(&question, false) else { continue };
        let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
        if stream.write_all(&[&length[..], &answer].concat()).is_err() {
            return;
        }
    }
}

impl Zone {
    fn answer(&mut self, question: &[u8], is_udp: bool) -> Option<Vec<u8>> {
        let question = Message::from_vec(question).ok()?;
        let query = question.queries.first()?.clone();
        let name = query.name().to_ascii().to_ascii_lowercase();
        self.asked.push(format!("{name} {}", query.query_type()));
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.metadata.recursion_desired = question.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.add_query(query.clone());
        match self.mood {
            Mood::Silent => return None,
            Mood::Broken => answer.metadata.response_code = ResponseCode::ServFail,
            Mood::Terse if is_udp => answer.metadata.truncation = true,
            Mood::Well | Mood::Terse => self.fill(&mut answer, &name, query.query_type()),
        }
        answer.to_vec().ok()
    }

    /// Adds the records of a name, behind those of its aliases.
    fn fill(&self, answer: &mut Message, name: &str, kind: RecordType) {
        let Some(records) = self.records.get(name) else {
            answer.metadata.response_code = ResponseCode::NXDomain;
            return;
        };
        for record in records {
            if record.record_type() == kind {
                answer.add_answer(record.clone());
            } else if let RData::CNAME(target) = &record.data {
                answer.add_answer(record.clone());
                self.fill(answer, &target.0.to_ascii(), kind);
            }
        }
    }
}
