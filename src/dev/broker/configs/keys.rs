//! What a config is: its name, type, default, and which values it takes.

use kafka_protocol::error::ResponseError;
use regex::Regex;

use super::Refused;

/// A config's type, as `DescribeConfigs` numbers them (KIP-569).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    Boolean = 1,
    String = 2,
    Int = 3,
    Short = 4,
    Long = 5,
    Double = 6,
    List = 7,
    Class = 8,
    Password = 9,
}

/// Which values a config takes, besides being of its type. For lists, each element.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    Any,
    AtLeast(i64),
    Between(i64, i64),
    /// Between the two, or the third.
    BetweenOr(i64, i64, i64),
    /// A part of one: 0 to this.
    Part(f64),
    OneOf(&'static [&'static str]),
    OneOfAnyCase(&'static [&'static str]),
    NotEmpty,
    /// `*`, or a list of `PARTITION:BROKER`.
    Replicas,
    /// `earliest`, `latest`, or `by_duration:` and an ISO 8601 duration (KIP-932).
    Reset,
}

/// How a broker's config can be changed while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Not at all.
    Restart,
    /// For one broker, or as the default of all.
    Cluster,
}

/// A config that is known.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    pub name: &'static str,
    pub kind: Type,
    pub default: Option<&'static str>,
    pub rule: Rule,
    pub change: Change,
}

impl Key {
    /// One of the tables' rows.
    pub const fn new(name: &'static str, kind: Type, default: Option<&'static str>, rule: Rule, change: Change) -> Key {
        Key { name, kind, default, rule, change }
    }

    /// Whether its value is never shown.
    pub fn sensitive(&self) -> bool {
        self.kind == Type::Password
    }

    /// The value as Kafka shows it when it has read it: without spaces around, booleans in lower case.
    ///
    /// # Errors
    /// `INVALID_CONFIG`: it is not of the type, or breaks the rule.
    pub fn read(&self, value: &str) -> Result<String, Refused> {
        let value = value.trim();
        match self.kind {
            Type::Boolean => self.boolean(value),
            Type::Int => self.number(value, i64::from(i32::MIN), i64::from(i32::MAX)),
            Type::Short => self.number(value, i64::from(i16::MIN), i64::from(i16::MAX)),
            Type::Long => self.number(value, i64::MIN, i64::MAX),
            Type::Double => self.double(value),
            Type::List => self.list(value),
            Type::String | Type::Class | Type::Password => self.text(value).map(|()| value.to_owned()),
        }
    }

    fn boolean(&self, value: &str) -> Result<String, Refused> {
        let lower = value.to_ascii_lowercase();
        if lower == "true" || lower == "false" { Ok(lower) } else { Err(self.refuse(value, "it is true or false")) }
    }

    fn number(&self, value: &str, min: i64, max: i64) -> Result<String, Refused> {
        let number = value.parse::<i64>().ok().filter(|number| (min..=max).contains(number));
        let Some(number) = number else {
            return Err(self.refuse(value, &format!("it is a whole number of type {}", self.kind_name())));
        };
        match self.rule {
            Rule::AtLeast(min) if number < min => Err(self.refuse(value, &format!("it is at least {min}"))),
            Rule::Between(min, max) if !(min..=max).contains(&number) => {
                Err(self.refuse(value, &format!("it is between {min} and {max}")))
            }
            Rule::BetweenOr(min, max, or) if number != or && !(min..=max).contains(&number) => {
                Err(self.refuse(value, &format!("it is between {min} and {max}, or {or}")))
            }
            _ => Ok(number.to_string()),
        }
    }

    fn double(&self, value: &str) -> Result<String, Refused> {
        let Some(number) = value.parse::<f64>().ok().filter(|number| number.is_finite()) else {
            return Err(self.refuse(value, "it is a number of type DOUBLE"));
        };
        match self.rule {
            Rule::Part(max) if !(0.0..=max).contains(&number) => Err(self.refuse(value, &format!("it is between 0 and {max}"))),
            _ => Ok(java_double(number)),
        }
    }

    fn list(&self, value: &str) -> Result<String, Refused> {
        if self.rule == Rule::Replicas {
            self.replicas(value)?;
        }
        let mut once: Vec<&str> = Vec::new();
        for element in elements(value) {
            self.text(element)?;
            if !once.contains(&element) {
                once.push(element);
            }
        }
        Ok(once.join(","))
    }

    fn replicas(&self, value: &str) -> Result<(), Refused> {
        let pair = |element: &&str| {
            let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            element.split_once(':').is_some_and(|(partition, broker)| digits(partition) && digits(broker))
        };
        if value == "*" || elements(value).iter().all(pair) {
            return Ok(());
        }
        Err(self.refuse(value, "it is *, or a list such as 0:1,1:1 of partitions and brokers"))
    }

    fn text(&self, value: &str) -> Result<(), Refused> {
        match self.rule {
            Rule::OneOf(values) if !values.contains(&value) => {
                Err(self.refuse(value, &format!("it is one of {}", values.join(", "))))
            }
            Rule::OneOfAnyCase(values) if !values.iter().any(|of| of.eq_ignore_ascii_case(value)) => {
                Err(self.refuse(value, &format!("it is one of {}", values.join(", "))))
            }
            Rule::NotEmpty if value.is_empty() => Err(self.refuse(value, "it is not empty")),
            Rule::Reset if !is_reset(value) => Err(self.refuse(value, "it is earliest, latest, or by_duration:PnDTnHnMn.nS")),
            _ => Ok(()),
        }
    }

    fn kind_name(&self) -> &'static str {
        match self.kind {
            Type::Boolean => "BOOLEAN",
            Type::String => "STRING",
            Type::Int => "INT",
            Type::Short => "SHORT",
            Type::Long => "LONG",
            Type::Double => "DOUBLE",
            Type::List => "LIST",
            Type::Class => "CLASS",
            Type::Password => "PASSWORD",
        }
    }

    fn refuse(&self, value: &str, rule: &str) -> Refused {
        let value = if self.sensitive() { "(hidden)" } else { value };
        Refused::new(ResponseError::InvalidConfig, format!("Invalid value '{value}' of {}: {rule}", self.name))
    }
}

/// A list's elements without the spaces around them. None for an empty text.
pub fn elements(value: &str) -> Vec<&str> {
    let value = value.trim();
    if value.is_empty() { Vec::new() } else { value.split(',').map(str::trim).collect() }
}

/// `5.0E-4`, `0.5`, `100.0`, `1.0E7`: a number as Java writes it, whose clients compare such texts.
fn java_double(number: f64) -> String {
    let size = number.abs();
    if size == 0.0 || (1e-3..1e7).contains(&size) {
        return format!("{number:?}");
    }
    let text = format!("{number:E}");
    match text.split_once('E') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0E{exponent}"),
        _ => text,
    }
}

fn is_reset(value: &str) -> bool {
    let Some(duration) = value.strip_prefix("by_duration:") else { return value == "earliest" || value == "latest" };
    let form = Regex::new(r"^P(\d+D)?(T(\d+H)?(\d+M)?(\d+(\.\d{1,9})?S)?)?$");
    form.is_ok_and(|form| form.is_match(duration)) && duration.ends_with(['D', 'H', 'M', 'S'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Type, rule: Rule, value: &str) -> String {
        match Key::new("some.key", kind, None, rule, Change::Restart).read(value) {
            Ok(value) => value,
            Err(refused) => {
                assert_eq!(refused.error, ResponseError::InvalidConfig);
                format!("! {}", refused.message)
            }
        }
    }

    #[test]
    fn values_are_read_as_kafka_reads_them() {
        let policies = Rule::OneOf(&["compact", "delete"]);
        let table: &[(Type, Rule, &str, &str)] = &[
            (Type::Boolean, Rule::Any, " TRUE ", "true"),
            (Type::Boolean, Rule::Any, "maybe", "! Invalid value 'maybe' of some.key: it is true or false"),
            (Type::Int, Rule::Any, " 77 ", "77"),
            (Type::Int, Rule::Any, "+5", "5"),
            (Type::Int, Rule::Any, "2147483648", "! Invalid value '2147483648' of some.key: it is a whole number of type INT"),
            (Type::Long, Rule::Any, "2147483648", "2147483648"),
            (Type::Long, Rule::Any, "", "! Invalid value '' of some.key: it is a whole number of type LONG"),
            (Type::Long, Rule::Any, "1.5", "! Invalid value '1.5' of some.key: it is a whole number of type LONG"),
            (Type::Long, Rule::AtLeast(-1), "-1", "-1"),
            (Type::Long, Rule::AtLeast(-1), "-2", "! Invalid value '-2' of some.key: it is at least -1"),
            (Type::Int, Rule::Between(1, 17), "18", "! Invalid value '18' of some.key: it is between 1 and 17"),
            (Type::Int, Rule::BetweenOr(1, 9, -1), "-1", "-1"),
            (Type::Int, Rule::BetweenOr(1, 9, -1), "0", "! Invalid value '0' of some.key: it is between 1 and 9, or -1"),
            (Type::Double, Rule::Part(1.0), "1", "1.0"),
            (Type::Double, Rule::Part(1.0), ".5", "0.5"),
            (Type::Double, Rule::Part(1.0), "0.0005", "5.0E-4"),
            (Type::Double, Rule::Part(1.0), "1.5", "! Invalid value '1.5' of some.key: it is between 0 and 1"),
            (Type::Double, Rule::Any, "10000000", "1.0E7"),
            (Type::Double, Rule::Any, "NaN", "! Invalid value 'NaN' of some.key: it is a number of type DOUBLE"),
            (Type::List, policies, " compact , delete ", "compact,delete"),
            (Type::List, policies, "delete,delete", "delete"),
            (Type::List, policies, "", ""),
            (Type::List, policies, "none", "! Invalid value 'none' of some.key: it is one of compact, delete"),
            (Type::List, policies, "delete,", "! Invalid value '' of some.key: it is one of compact, delete"),
            (Type::List, Rule::Replicas, "*", "*"),
            (Type::List, Rule::Replicas, "0:1,1:1", "0:1,1:1"),
            (
                Type::List,
                Rule::Replicas,
                "x",
                "! Invalid value 'x' of some.key: it is *, or a list such as 0:1,1:1 of partitions and brokers",
            ),
            (Type::String, Rule::OneOf(&["a"]), "A", "! Invalid value 'A' of some.key: it is one of a"),
            (Type::String, Rule::OneOfAnyCase(&["a"]), "A", "A"),
            (Type::String, Rule::NotEmpty, " ", "! Invalid value '' of some.key: it is not empty"),
            (Type::String, Rule::Reset, "by_duration:PT1H", "by_duration:PT1H"),
            (Type::String, Rule::Reset, "by_duration:P1DT1.5S", "by_duration:P1DT1.5S"),
            (
                Type::String,
                Rule::Reset,
                "by_duration:1H",
                "! Invalid value 'by_duration:1H' of some.key: it is earliest, latest, or by_duration:PnDTnHnMn.nS",
            ),
            (
                Type::String,
                Rule::Reset,
                "by_duration:PT",
                "! Invalid value 'by_duration:PT' of some.key: it is earliest, latest, or by_duration:PnDTnHnMn.nS",
            ),
            (Type::Password, Rule::NotEmpty, "", "! Invalid value '(hidden)' of some.key: it is not empty"),
        ];
        for (kind, rule, value, expected) in table {
            assert_eq!(&read(*kind, *rule, value), expected, "{kind:?} {rule:?} {value:?}");
        }
    }
}
