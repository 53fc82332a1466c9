"""The model card: a test report of one run, with the metadata that the Hub reads.

Label names, repo ids, columns, licences and warnings come from users and data. Names are written as code spans and
sentences are escaped, so that none of them can be a link, HTML, Markdown or YAML.
"""
