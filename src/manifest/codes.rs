//! The codes of this room's diagnostics, with what `mesh explain CODE` says of each.

use crate::model::diagnostic::{Code, CodeDoc};

macro_rules! codes {
    ($($name:ident = $code:literal, $title:literal, $explanation:literal;)*) => {
        $(#[doc = $title] pub const $name: Code = Code($code);)*

        /// All of them, by code.
        pub const ALL: &[CodeDoc] = &[$(CodeDoc { code: $name, title: $title, explanation: $explanation }),*];
    };
}

codes! {
    SYNTAX = "M0101", "not YAML",
        "The file is not YAML 1.2 text, so nothing after this place could be read. Mind the indentation (spaces, no tabs), and quote texts \
         that hold `: ` or ` #` or begin with a character that means something to YAML: `channel: \"#station-ops\"`.";
    UNKNOWN_FIELD = "M0102", "unknown field",
        "The format has no such field at this place. A field that is misspelled would otherwise be silently ignored. \
         `schemas/mesh.schema.json`, which `mesh schema` prints, lists what a section may say, and tells it to your editor.";
    WRONG_TYPE = "M0103", "wrong type",
        "The field takes another type of value: a number where a text stands, a list where a map is expected. Texts that look like numbers are \
         quoted: `version: \"1.0\"`. YAML 1.2 knows only `true` and `false`; `yes`, `NO` and `on` are texts. A field without a value is not the same \
         as an absent field: leave it out.";
    MISSING_FIELD = "M0104", "missing field", "The section needs this field. Add it where the message points.";
    UNKNOWN_VALUE = "M0105", "unknown value", "The field takes one of a few words, and this is none of them. The help line lists them.";
    UNKNOWN_KIND = "M0106", "unknown kind",
        "Every document says `apiVersion: mesh/v1` and its `kind`: DataProduct, Domain, Team, Policy or Environment. The kind decides what else \
         the document may say, so nothing else of it was checked. Files of other tools do not belong below the directory given with `-f`.";
    BAD_VALUE = "M0107", "value out of form",
        "The value has the right type but not the right form, or lies outside of what is allowed: a span of time is `60s`, a partition count lies \
         between 1 and 100,000, a name is made of lower-case letters, digits and hyphens.";
    DOUBTFUL_NUMBER = "M0108", "number that would change",
        "YAML readers disagree on this number, or it has more digits than a number can hold: `012` is 12 to some and 10 to others. It is refused rather \
         than changed silently. Quote it if it is a text; write it plainly if it is a number.";
    TOO_LARGE = "M0109", "too large",
        "A manifest file is at most 1 MiB, 64 levels deep, and 100,000 values with its aliases written out. The bounds keep a small file from taking all \
         memory by aliases of aliases. Split the file.";
    GIVEN_TWICE = "M0110", "key given twice", "One map names the same key twice. YAML readers keep one and drop the other; which one differs. Remove one.";
    UNSUPPORTED_YAML = "M0111", "YAML that manifests do without",
        "Tags (`!include`), merge keys (`<<`) and keys that are lists or maps are YAML, but not part of the manifest format. A template is quoted: \
         `partitions: \"{{ partitions }}\"`.";
    TEMPLATE = "M0112", "template error",
        "Texts that hold `{{` or `{%` are templates. This one can't be rendered: its syntax is wrong, it uses what templates may not (includes, \
         definitions, `*`), or it grows beyond its bounds. The line is counted within the template.";
    UNDEFINED_VARIABLE = "M0113", "undefined variable",
        "A template uses a name that the environment does not give. Variables stand under `spec.vars` of the Environment that is selected with `-e`; \
         besides them there is `env.name`.";
    UNREADABLE = "M0114", "file can't be read",
        "A file that a manifest names, or that was given with `-f`, does not exist, may not be read, is too large, or is not UTF-8 text. Paths in a \
         manifest are relative to the manifest's own folder.";
    OUTSIDE = "M0115", "path outside of the project",
        "Files are opened below the project root only: the nearest folder above the manifests that holds a `.git`, else the folder given with `-f`. \
         Absolute paths, paths that climb out by `..`, and symbolic links that lead out are refused, so that a manifest of a stranger can't read \
         what is not its own.";
    ONE_OF = "M0116", "one of several",
        "The section says what something is by naming one of several fields: `source: {replay: {..}}`, `password: {env: NAME}`. It names none, or more than one.";
    SECRET_IN_TEXT = "M0117", "secret in a manifest",
        "A secret is never written into a manifest, which lies in version control and is printed. Name where it is found when it is needed: \
         `password: {env: KAFKA_PASSWORD}` or `password: {file: secrets/kafka}`. Consider the one that stood here as known, and change it.";
    DECLARED_TWICE = "M0201", "declared twice", "Two documents of one kind have the same name. Names are unique in the whole mesh, over all files.";
    UNKNOWN_DOMAIN = "M0202", "unknown domain", "The product names a Domain that no document declares. Declare it (`kind: Domain`), or correct the name.";
    UNKNOWN_TEAM = "M0203", "unknown team", "The product names a Team that no document declares. Declare it (`kind: Team`), or correct the name.";
    UNKNOWN_PRODUCT = "M0204", "unknown product", "A manifest names a data product that no document declares. Declare it, or correct the name.";
    TOPIC_TWICE = "M0205", "topic of two products",
        "A product is one topic. Two products with the same topic would overwrite each other's settings; so would topics whose names differ only in \
         `.` and `_`, which Kafka refuses to have side by side.";
    TOPIC_NAME = "M0206", "topic name",
        "Kafka takes topic names of letters, digits, `.`, `_` and `-`, at most 249 characters, not `.` or `..`. Names that begin with `__` are Kafka's own, \
         and `_mesh` is mesh's.";
    KEY_MISSING = "M0207", "table without a key",
        "A table's latest record of each key is its value, so it needs to say which columns form the key: `key: [station_id]`.";
    TWO_ORIGINS = "M0208", "source and derivation",
        "A product's records come from one place: a `source` brings them in, or a `derivation` computes them. Make two products of it, the second \
         derived from the first.";
    POLICY_NOT_YET = "M0209", "policies are not carried out",
        "This version reads policies and checks their form, but does not judge by them. A policy that is not enforced must not look as if it were, so \
         it stops plan and apply. Remove the document, or keep it outside of the folders given with `-f`.";
    CONTRACT_MISSING = "M0301", "missing contract",
        "Consumers need to know what records hold. A derived product's schema can be inferred from its SQL; any other product names a schema file: \
         `schema: {format: json, file: ../schemas/orders.json}`.";
    CONTRACT_BROKEN = "M0302", "schema that can't be read", "The contract's file is not a schema of the declared format. The place is in the schema file.";
    KEY_NOT_IN_CONTRACT = "M0303", "key column not in the contract", "The columns of `key` are columns of the value, and the contract has no such property.";
    TIME_NOT_IN_CONTRACT = "M0304", "event time not in the contract",
        "`time.field` is a timestamp column of the contract, or `rowtime`, the record's own timestamp. In JSON Schema a timestamp is a string with \
         `format: date-time`; in Avro a `timestamp-millis`.";
    UNKNOWN_ENVIRONMENT = "M0501", "unknown environment",
        "`-e` names an Environment that no document declares. Without `-e` it is `local`, which is built in.";
    VARIABLE_NOT_SET = "M0502", "environment variable not set",
        "The selected Environment takes a value from an environment variable (`${NAME}`) that is not set. Environments that are not selected need no variables.";
    ADDRESS_MISSING = "M0503", "missing address", "An Environment other than `local` says where Kafka and the registry are: `kafka.bootstrap` and `registry.url`.";
    BAD_ADDRESS = "M0504", "address out of form",
        "A registry's address is `http://` or `https://`, a host, and a path if it needs one; Kafka's is `host:port`, several separated by commas. \
         A user name and password do not belong into an address: see `basic` and `security`.";
    BAD_SECURITY = "M0505", "security settings that do not fit",
        "SASL needs `mechanism`, `username` and `password` together. Without a mechanism the connection is TLS, so `tls: false` is then no security at all.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_sorted_and_explained() {
        assert!(ALL.windows(2).all(|pair| pair[0].code < pair[1].code));
        assert!(ALL.iter().all(|doc| !doc.title.is_empty() && !doc.explanation.is_empty() && !doc.explanation.contains("  ")));
    }
}
