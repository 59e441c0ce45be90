//! The kernel's socket table as text: `/proc/net/tcp` and `tcp6` of the pod's network namespace.
//!
//! It knows states and peers, not requests: a keep-alive connection without a request counts as active.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use podkit_lifecycle::Deadline;

use super::table::{Row, State, Table};
use super::{Rows, Source, SourceError};
use crate::peers::Peers;
use crate::quiet::Sample;

/// Reads a row of either file; `None` for the head line and for anything that is not a row.
fn parse(line: &[u8]) -> Option<Row> {
    let mut fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty()).skip(1);
    let (_, local_port) = endpoint(fields.next()?)?;
    let peer = endpoint(fields.next()?)?;
    let state = State::from_number(number(fields.next()?)?)?;
    Some(Row { local_port, peer, state, quiet: None })
}

/// `0100007F:1F90`: the address as the kernel holds it in memory, printed word by word in the machine's byte order; the
/// port as a plain number.
fn endpoint(text: &[u8]) -> Option<(IpAddr, u16)> {
    let colon = text.iter().position(|byte| *byte == b':')?;
    let (address, port) = (&text[..colon], &text[colon + 1..]);
    let port = u16::try_from(number(port)?).ok()?;
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(number(address)?.to_ne_bytes())),
        32 => {
            let mut bytes = [0; 16];
            for (word, place) in address.chunks_exact(8).zip(bytes.chunks_exact_mut(4)) {
                place.copy_from_slice(&number(word)?.to_ne_bytes());
            }
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some((address, port))
}

/// Up to eight hexadecimal digits.
fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    digits.iter().try_fold(0, |sum, digit| Some(sum << 4 | char::from(*digit).to_digit(16)?))
}

/// The source; each poll reads both files.
pub(crate) struct ProcNet {
    /// Usually `/proc/net`.
    dir: PathBuf,
    table: Table,
}

impl ProcNet {
    pub(crate) fn new(dir: impl Into<PathBuf>, ports: &[u16], peers: &Peers) -> Self {
        Self { dir: dir.into(), table: Table::new(ports, peers) }
    }

    /// Row by row: a full table of a busy pod never lies in memory as a whole.
    fn read(&self, take: &mut dyn FnMut(Row)) -> Result<(), SourceError> {
        let failed = |file: &str, source| SourceError::Read { path: self.dir.join(file), source };
        self.read_file("tcp", take).map_err(|error| failed("tcp", error))?;
        match self.read_file("tcp6", take) {
            // A kernel without IPv6 has no such file.
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("tcp6", error)),
            _ => Ok(()),
        }
    }

    fn read_file(&self, file: &str, take: &mut dyn FnMut(Row)) -> io::Result<()> {
        let mut reader = BufReader::new(File::open(self.dir.join(file))?);
        let mut line = Vec::with_capacity(256);
        while reader.read_until(b'\n', &mut line)? > 0 {
            if let Some(row) = parse(&line) {
                take(row);
            }
            line.clear();
        }
        Ok(())
    }
}

impl Source for ProcNet {
    fn name(&self) -> String {
        self.dir.join("tcp").display().to_string()
    }

    fn poll(&mut self, _: Deadline) -> Result<Sample, SourceError> {
        let mut look = self.table.begin();
        self.read(&mut |row| self.table.take(row, &mut look))?;
        Ok(self.table.end(look))
    }
}

impl Rows for ProcNet {
    fn rows(&mut self, _: Deadline) -> Result<Vec<Row>, SourceError> {
        let mut rows = Vec::new();
        self.read(&mut |row| rows.extend(Some(row).filter(|row| self.table.is_ours(row))))?;
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::Duration;

    const HEAD: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";

    fn row(local: &str, peer: &str, state: &str) -> String {
        format!(
            "   0: {local} {peer} {state} 00000000:00000000 00:00000000 00000000  1000        0 1678 1 0000 20 4 0 10 -1"
        )
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn rows_of_both_families() {
        let v4 = parse(row("0100007F:1F90", "0502A8C0:C001", "01").as_bytes()).unwrap();
        assert_eq!(
            v4,
            Row {
                local_port: 8080,
                peer: ("192.168.2.5".parse().unwrap(), 49153),
                state: State::Active,
                quiet: None
            }
        );

        let v6 = row("00000000000000000000000000000000:01BB", "B80D0120000000000000000001000000:0050", "06");
        let v6 = parse(v6.as_bytes()).unwrap();
        assert_eq!(
            v6,
            Row {
                local_port: 443,
                peer: ("2001:db8::1".parse().unwrap(), 80),
                state: State::Over,
                quiet: None
            }
        );

        let mapped =
            row("0000000000000000FFFF00000100007F:1F90", "0000000000000000FFFF00000502A8C0:C001", "0A");
        let mapped = parse(mapped.as_bytes()).unwrap();
        assert_eq!((mapped.peer.0.to_string(), mapped.state), ("192.168.2.5".to_owned(), State::Listening));
    }

    #[test]
    fn every_state_of_the_kernel_is_told() {
        use State::{Active, Listening, Over};
        let states = [
            Active, Active, Active, Active, Over, Over, Over, Active, Active, Listening, Active, Active,
            Listening,
        ];
        for (code, state) in (1_u8..).zip(states) {
            let line = row("0100007F:1F90", "0502A8C0:C001", &format!("{code:02X}"));
            assert_eq!(parse(line.as_bytes()).map(|row| row.state), Some(state), "{code:02X}");
        }
    }

    #[test]
    fn what_is_no_row_is_passed_over() {
        let odd = [
            "",
            "  ",
            HEAD,
            "   0:",
            "   0: 0100007F:1F90",
            "   0: 0100007F 0502A8C0:C001 01",
            "   0: 0100007F:1F90 0502A8C0:C001 FF",
            "   0: 0100007F:1F901 0502A8C0:C001 01",
            "   0: 0100007:1F90 0502A8C0:C001 01",
            "   0: xxxxxxxx:1F90 0502A8C0:C001 01",
            "\u{fffd}: \u{fffd}:\u{fffd} : 01",
        ];
        for line in odd {
            assert_eq!(parse(line.as_bytes()), None, "{line:?}");
        }
    }

    /// A directory that stands for `/proc/net`.
    struct Table(tempfile::TempDir);

    impl Table {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn write(&self, file: &str, rows: &[String]) {
            fs::write(self.0.path().join(file), format!("{HEAD}\n{}\n", rows.join("\n"))).unwrap();
        }

        fn source(&self) -> ProcNet {
            ProcNet::new(self.0.path(), &[8080], &Peers::default())
        }
    }

    fn poll(source: &mut ProcNet) -> Sample {
        source.poll(Deadline::after(Duration::from_secs(5))).unwrap()
    }

    fn seen(active: u64, new: bool) -> Sample {
        Sample { active, open: active, since_new: new.then_some(Duration::ZERO) }
    }

    const LISTEN: (&str, &str, &str) = ("00000000:1F90", "00000000:0000", "0A");

    #[cfg(target_endian = "little")]
    #[test]
    fn new_connections_are_told_by_comparing_polls() {
        let table = Table::new();
        let mut source = table.source();
        let client = |port: &str, state| row("0A0A0A0A:1F90", &format!("0502A8C0:{port}"), state);
        let listen = || row(LISTEN.0, LISTEN.1, LISTEN.2);

        table.write("tcp", &[listen(), client("C001", "01")]);
        assert_eq!(poll(&mut source), seen(1, false), "the first look cannot tell new from old");
        table.write(
            "tcp6",
            &[row("00000000000000000000000000000000:1F90", "0000000000000000FFFF00000702A8C0:C001", "01")],
        );
        assert_eq!(poll(&mut source), seen(2, true), "a mapped one in tcp6 is new");
        assert_eq!(poll(&mut source), seen(2, false));
        table.write("tcp", &[listen(), client("C001", "06"), client("C002", "06")]);
        table.write("tcp6", &[]);
        assert_eq!(
            poll(&mut source),
            seen(0, true),
            "one came and went between two polls, and left its TIME_WAIT"
        );
        table.write("tcp", &[listen()]);
        assert_eq!(poll(&mut source), seen(0, false));
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn other_ports_and_peers_that_are_no_clients_do_not_count() {
        let table = Table::new();
        table.write(
            "tcp",
            &[
                row("0A0A0A0A:1F91", "0502A8C0:C001", "01"),
                row("0A0A0A0A:C002", "0502A8C0:1F90", "01"),
                row("0100007F:1F90", "0100007F:C003", "01"),
            ],
        );
        assert_eq!(poll(&mut table.source()), seen(0, false));
        let mut with_loopback =
            ProcNet::new(table.0.path(), &[8080], &Peers { count_loopback: true, ..Peers::default() });
        assert_eq!(poll(&mut with_loopback), seen(1, false));
    }

    #[test]
    fn a_table_that_cannot_be_read_is_an_error_that_names_it() {
        let table = Table::new();
        let error = table.source().poll(Deadline::after(Duration::from_secs(5))).unwrap_err();
        assert!(podkit_cli::chain(&error).contains("tcp: no such file or directory"), "{error}");
    }

    #[test]
    fn the_real_table_of_this_machine_parses() {
        let text = fs::read_to_string("/proc/net/tcp").unwrap();
        for line in text.lines().skip(1) {
            assert!(parse(line.as_bytes()).is_some(), "{line:?}");
        }
    }
}
