//! A stream read byte by byte, in a few bytes of state: a process with a million streams cannot
//! buffer.

/// The data of event `number`: eight digits, sixteen times.
pub(super) fn data(number: u32) -> String {
    format!("{number:08}").repeat(DATA_BYTES / DIGITS)
}

/// Where the reading of one stream is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// The event in hand.
    number: u32,
    /// Bytes of the line so far.
    column: u16,
    line: Line,
    /// Whether the block has data.
    has_data: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Line {
    #[default]
    Start,
    Data,
    /// A comment, an id, a reconnection time.
    Other,
}

/// What a byte ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// A block without data: the first one, or a heartbeat.
    Position,
    /// An event.
    Event(u32),
    /// A byte that belongs to no such stream.
    Wrong,
}

impl Scan {
    /// Whether it stands between blocks.
    pub(super) fn is_between(self) -> bool {
        self == Self::default()
    }

    /// Takes a byte; says so when a block ends or something is wrong with it.
    pub(super) fn take(&mut self, byte: u8) -> Option<Seen> {
        let column = usize::from(self.column);
        self.column = self.column.saturating_add(1);
        match self.line {
            Line::Start if byte == b'\n' => {
                let seen = if self.has_data { Seen::Event(self.number) } else { Seen::Position };
                *self = Self::default();
                return Some(seen);
            }
            Line::Start => match byte {
                b'd' if !self.has_data => self.line = Line::Data,
                b':' | b'i' | b'r' => self.line = Line::Other,
                // A second data line, or an event of the hub's own: a gap, a close.
                _ => return Some(Seen::Wrong),
            },
            // A comment of no text, which no empty line follows.
            Line::Other if byte == b'\n' && column == 1 => {
                *self = Self::default();
                return Some(Seen::Position);
            }
            Line::Other if byte == b'\n' => self.end_line(),
            Line::Other => {}
            Line::Data if byte == b'\n' => {
                if column != FIELD.len() + DATA_BYTES {
                    return Some(Seen::Wrong);
                }
                self.has_data = true;
                self.end_line();
            }
            Line::Data if column < FIELD.len() => {
                if byte != FIELD[column] {
                    return Some(Seen::Wrong);
                }
            }
            Line::Data => return self.take_digit(byte, column - FIELD.len()),
        }
        None
    }

    fn take_digit(&mut self, byte: u8, at: usize) -> Option<Seen> {
        let digit = u32::from(byte.wrapping_sub(b'0'));
        if digit > 9 || at >= DATA_BYTES {
            return Some(Seen::Wrong);
        }
        if at < DIGITS {
            self.number = self.number * 10 + digit;
            return None;
        }
        let power = POWERS[DIGITS - 1 - at % DIGITS];
        (self.number / power % 10 != digit).then_some(Seen::Wrong)
    }

    fn end_line(&mut self) {
        self.line = Line::Start;
        self.column = 0;
    }
}

const FIELD: &[u8] = b"data: ";
const DIGITS: usize = 8;
/// Bytes of each event's data.
const DATA_BYTES: usize = 128;
const POWERS: [u32; DIGITS] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str) -> Vec<Seen> {
        let mut scan = Scan::default();
        text.bytes().filter_map(|byte| scan.take(byte)).collect()
    }

    #[test]
    fn events_and_positions_are_told_apart() {
        let stream = format!(
            ": visnyk\nretry: 2000\nid: a.1\n\nid: a.1\n\ndata: {}\nid: a.2\n\ndata: {}\nid: a.3\n\n",
            data(41),
            data(12_345_678)
        );
        let seen = [Seen::Position, Seen::Position, Seen::Event(41), Seen::Event(12_345_678)];
        assert_eq!(scan(&stream), seen);
    }

    #[test]
    fn any_changed_byte_of_the_data_is_noticed() {
        let good = format!("data: {}\nid: a.2\n\n", data(90_210));
        // The first eight digits are the number itself: another number is another event.
        for at in 0.."data: ".len() + DATA_BYTES + 1 {
            let mut bytes = good.clone().into_bytes();
            bytes[at] = if bytes[at] == b'7' { b'8' } else { b'7' };
            let text = String::from_utf8(bytes).expect("it stays ASCII");
            let seen = scan(&text);
            assert_ne!(seen, [Seen::Event(90_210)], "byte {at}");
        }
    }

    #[test]
    fn gaps_and_closes_are_no_part_of_it() {
        assert_eq!(scan("event: visnyk.gap\n")[0], Seen::Wrong);
    }
}
