"""Flags that say where records come from and who a client is; `load_task` reads them.

Only absl is imported, so that `--help` answers at once.
"""

from absl import flags

OF_SOURCES = (
    *("data", "delimiter", "encoding", "header", "columns", "query", "json_path"),
    "bearer_token_env",
)
"""Flags that say where a table is and how it is read, for tools that need no others."""

flags.DEFINE_string(
    "dataset",
    "synthetic",
    "synthetic (generated), a data set that this page names, or table for your own records.",
)
flags.DEFINE_string(
    "data", None, "Where the records are: file, folder, sqlite:///…, postgresql://…, http(s)://…"
)
flags.DEFINE_string("schema", None, "JSON file that says what is publicly known of each column.")
flags.DEFINE_bool(
    "infer_schema",
    None,
    "Read bounds and categories off the data; epsilon does not cover that, and the report says so.",
)
flags.DEFINE_string("label_column", None, "Column of the label.")
flags.DEFINE_string("text_column", None, "Column of a text, where a use case reads texts.")
flags.DEFINE_string("time_column", None, "Column of the date or time, where a use case needs one.")
flags.DEFINE_string("value_column", None, "Column of the value in time, such as a spend.")
flags.DEFINE_string(
    "user_column",
    None,
    "Column of the customer, for recommendations; for churn by inactivity, where --client_column "
    "names groups of customers such as shops (a row is then a customer's orders in one shop).",
)
flags.DEFINE_string("item_column", None, "Column of the item, for recommendations.")
flags.DEFINE_string("rating_column", None, "Column of the rating; without it, what was bought.")
flags.DEFINE_string("positive_label", None, "Value of the label that counts as 1.")
flags.DEFINE_string("client_column", None, "Column of the client; without it each row is a client.")
flags.DEFINE_bool(
    "allow_label_copies",
    False,
    "Train although a column alone tells the label; else such a column is refused, since it is "
    "mostly a copy of the label or was filled in after it.",
)
flags.DEFINE_list("drop_columns", None, "Columns to leave out.")
flags.DEFINE_string("delimiter", None, "Delimiter of text files (default: by the file's name).")
flags.DEFINE_string("encoding", None, "Encoding of text files (default: utf-8).")
flags.DEFINE_bool("header", None, "Whether text files have a header line (default: they have).")
flags.DEFINE_list("columns", None, "Columns to read; without a header, the names of all columns.")
flags.DEFINE_string("query", None, "SQL query, for a database.")
flags.DEFINE_string(
    "json_path", None, "Where the records are in a JSON document, such as data.items."
)
flags.DEFINE_string(
    "bearer_token_env", None, "Name of the environment variable with the token for an HTTP API."
)
flags.DEFINE_integer(
    "max_rows_per_client", None, "Keep at most so many rows of a client, chosen by the seed."
)
flags.DEFINE_string(
    "person_column",
    None,
    "Column that names the person of a row, where a person may be in several clients.",
)
flags.DEFINE_integer(
    "clients_per_person",
    None,
    "Clients that a person may be in: enforced where --person_column names the persons (rows in "
    "further clients are left out), else declared by you. The report states epsilon for a person.",
)
flags.DEFINE_float("validation_fraction", 0.1, "Share of the clients that watch the training.")
flags.DEFINE_float("test_fraction", 0.2, "Share of the clients for the final metrics.")
flags.DEFINE_string(
    "partition", "natural", "Who is a client: natural, iid, dirichlet or quantity (simulated)."
)
flags.DEFINE_integer("partition_clients", None, "Clients of a simulated partition.")
flags.DEFINE_float(
    "dirichlet_concentration", None, "Label skew of --partition=dirichlet; smaller is more (0.5)."
)
flags.DEFINE_float("quantity_sigma", None, "Spread of sizes of --partition=quantity (1.0).")
