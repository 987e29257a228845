def write_report(paths, output):
    return output
def main(): pass
