"""The ledger's answers for people: tables, a study's story, files for analysts."""
