"""`gliograde demo`: the whole pipe with a simulated scanner and a stand-in PACS."""
