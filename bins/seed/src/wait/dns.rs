//! `dns`: whether a name has an address, as the apps of this pod would see it.

use std::io;
use std::net::IpAddr;

use podkit_cli::chain;
use podkit_dns::{Failure, Resolver};
use podkit_lifecycle::Deadline;

use super::Seen;
use crate::net;

pub(super) fn look(name: &str, by: Deadline) -> Seen {
    seen(addresses(name, by))
}

fn seen(addresses: Result<Vec<IpAddr>, Seen>) -> Seen {
    addresses.map_or_else(|seen| seen, |_| Seen::there("it has an address"))
}

/// The addresses of a host; an address stands for itself, also in brackets. Asked anew each time: an answer of a
/// moment ago is what the wait is about.
pub(super) fn addresses(host: &str, by: Deadline) -> Result<Vec<IpAddr>, Seen> {
    let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    match literal.parse() {
        Ok(address) => Ok(vec![address]),
        Err(_) => ask(&Resolver::default(), host, by),
    }
}

fn ask(resolver: &Resolver, host: &str, by: Deadline) -> Result<Vec<IpAddr>, Seen> {
    match net::run_until(by, async { resolver.addresses(host).await }) {
        Ok(Ok((addresses, _))) => Ok(addresses),
        Ok(Err(failure)) => Err(failed(&failure)),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(failed(&Failure::Timeout)),
        Err(error) => Err(Seen::Unclear(chain(&error))),
    }
}

/// Only a name server that says so makes a name gone.
pub(super) fn failed(failure: &Failure) -> Seen {
    match failure {
        Failure::NotFound => Seen::Gone(chain(failure)),
        Failure::Timeout | Failure::Failed(_) => Seen::Unclear(chain(failure)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::time::Duration;

    #[test]
    fn what_this_host_knows_has_an_address() {
        let by = Deadline::after(Duration::from_secs(30));
        assert_eq!(look("localhost", by), Seen::there("it has an address"));
        assert_eq!(addresses("[::1]", by), Ok(vec!["::1".parse().unwrap()]));
        assert_eq!(addresses("10.0.0.1", by), Ok(vec!["10.0.0.1".parse().unwrap()]));
    }

    /// Answers questions for an A record with an address, all others with none, and all with this code (RFC 1035 4.1.1).
    fn name_server(code: u8) -> Resolver {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((_, client)) = socket.recv_from(&mut question) {
                // Past the header: labels up to an empty one, the type and the class.
                let name = question[12..].iter().position(|byte| *byte == 0).unwrap();
                let end = 12 + name + 5;
                let has_answer = code == 0 && question[end - 3] == 1;
                let mut answer = question[..end].to_vec();
                answer[2..4].copy_from_slice(&[0x81, 0x80 | code]);
                answer[4..12].copy_from_slice(&[0, 1, 0, u8::from(has_answer), 0, 0, 0, 0]);
                if has_answer {
                    // The name of the question, A, IN, a minute, four bytes.
                    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 7]);
                }
                socket.send_to(&answer, client).unwrap();
            }
        });
        Resolver::new(vec![address])
    }

    #[test]
    fn only_a_name_server_that_says_so_makes_a_name_gone() {
        let look = |resolver: &Resolver, time| seen(ask(resolver, "db.shop", Deadline::after(time)));
        let long = Duration::from_secs(30);
        assert_eq!(look(&name_server(0), long), Seen::there("it has an address"));
        let gone = Seen::gone("the name does not exist, or has no address");
        assert_eq!(look(&name_server(3), long), gone, "NXDOMAIN");
        assert!(matches!(look(&name_server(2), long), Seen::Unclear(_)), "SERVFAIL");
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let resolver = Resolver::new(vec![silent.local_addr().unwrap()]);
        let unclear = Seen::unclear("the name server does not answer in time");
        assert_eq!(look(&resolver, Duration::from_millis(100)), unclear);
    }
}
